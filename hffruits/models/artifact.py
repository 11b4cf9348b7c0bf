"""The files of a trained model's folder, the same on disk and on the Hub."""

PICTURE = "evaluation.png"  # for the model card
SHARDS = "model.safetensors.index.json"  # of large models: which file holds which tensor
METRICS = "metrics.json"  # the last record that a run writes: with it, it has finished
CARD, REPORT = "README.md", "report.html"  # optional, as the picture is
DIVERGED = "diverged.json"
PROTOTYPES = "prototypes.safetensors"  # of the features of each class, for the OOD score
EXPORT = "export.json"  # beside a model that was exported: its format, precision and figures
ARTIFACT_FILES = {
    "config.json", "model.safetensors", "preprocessor_config.json", CARD, METRICS, DIVERGED,
    "training_args.json", "log_history.json", PROTOTYPES, REPORT, PICTURE,
}  # fmt: skip
