"""The files of a trained model's folder, the same on disk and on the Hub."""

PICTURE = "evaluation.png"  # for the model card
SHARDS = "model.safetensors.index.json"  # of large models: which file holds which tensor
METRICS = "metrics.json"  # the last record that a run writes: with it, it has finished
CARD, REPORT = "README.md", "report.html"  # optional, as the picture is
DIVERGED = "diverged.json"
ARTIFACT_FILES = {
    "config.json", "model.safetensors", "preprocessor_config.json", CARD, METRICS, DIVERGED,
    "training_args.json", "log_history.json", "prototypes.safetensors", REPORT, PICTURE,
}  # fmt: skip
