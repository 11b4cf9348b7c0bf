"""Backbones with heads: built, loaded, saved; freezing, batch norm, LoRA; the model card."""
