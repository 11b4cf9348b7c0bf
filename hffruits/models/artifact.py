"""The file names of a trained model's folder, the same on disk, in exports and on the Hub."""

CONFIG = "config.json"  # of `transformers`, with labels and our few keys
WEIGHTS = "model.safetensors"
WEIGHT_PARTS = "model-*.safetensors"  # of large models, in place of `WEIGHTS`
WEIGHT_INDEX = "model.safetensors.index.json"  # which of them holds which tensor
PREPROCESSING = "preprocessor_config.json"  # timm-wrapped models have theirs in `CONFIG`
ADAPTER = "adapter_config.json"  # of a model that is only updates to another; never loaded
PROTOTYPES = "prototypes.safetensors"  # of the classes, for the OOD score
METRICS = "metrics.json"  # the last record that a run writes: with it, it has finished
TRAINING_ARGS = "training_args.json"
LOG = "log_history.json"
DIVERGED = "diverged.json"
CARD, REPORT, PLOT = "README.md", "report.html", "evaluation.png"  # optional
SPLITS = "splits"  # a folder: which files are in which split
TRAIN_LIST = "train.txt"  # in that folder
TRAIN_DIGESTS = "train_digests.txt"  # there, too: knows photos of train in other places
EXAMPLES = "examples"  # a folder: some held-out photos, small, for the demo; optional
EXAMPLE_LABELS = "labels.json"  # in that folder: their classes

EXPORT = "export.json"  # instead of weights: format, precision and check of an export
ONNX, OPENVINO, OPENVINO_WEIGHTS = "model.onnx", "openvino_model.xml", "openvino_model.bin"
WEB, TORCH = "fruits.onnx", "model.pt2"  # for use without hffruits

ARTIFACT_FILES = {
    CONFIG, WEIGHTS, PREPROCESSING, PROTOTYPES, METRICS, TRAINING_ARGS, LOG, DIVERGED, CARD,
    REPORT, PLOT,
}  # fmt: skip
# What loading needs of a model's repository: never pickles, code, or what lies in its folders.
FETCHED = ("*.json", "model*.safetensors", PROTOTYPES, REPORT, ONNX, OPENVINO, OPENVINO_WEIGHTS)
NEVER_FETCHED = ("*/*", ADAPTER)  # an adapter would have its base fetched unseen
