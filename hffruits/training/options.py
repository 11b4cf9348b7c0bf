"""Flags of models and training as fields, each with its default and help; imports nothing heavy.

`ModelArguments` is used as it is. `TrainingOptions` becomes one with transformers' own fields in
`arguments.FruitTrainingArguments`.
"""

from dataclasses import dataclass

from hffruits.data.arguments import option


@dataclass
class ModelArguments:
    """Which backbone."""

    _argument_group_name = "model"

    model_name_or_path: str = option(
        "efficientnet_lite0",
        "A bundled backbone (efficientnet_lite0, 1, 2), a timm name, a Hub id, or a folder.",
    )
    model_revision: str | None = option(None, "Branch, tag or commit of a Hub model.")
    pretrained: bool = option(True, "Start from the backbone's trained weights.")
    image_size: int | None = option(
        None,
        "Height and width that the model sees (timm's CNNs). Default: 8/7 of train_image_size.",
    )
    train_image_size: int | None = option(
        None,
        "Height and width in training (CNNs), where crops show things larger. Default: image_size, "
        "if that is set, or the backbone's own.",
    )
    freeze: str = option(
        "half",
        "Stages that keep their weights: none, half, three_quarters, head_only, stages:K, gradual "
        "or lp_ft.",
    )
    feature_cache_views: int | None = option(
        None,
        "Compute the frozen stages' output once and cache it, for this many augmented views of "
        "each image, which the epochs see in turn; 0 for no cache. Default: up to 8 views on CPUs, "
        "where disk and memory have room and no other option excludes it.",
    )
    lora_rank: int = option(
        0, "Train low-rank updates of this rank instead of a ViT's own weights; 0 for not."
    )


@dataclass
class TrainingOptions:
    """Fields beside transformers' own, and defaults of those for fine-tuning on photos."""

    _argument_group_name = "training"

    output_dir: str | None = option(None, "Where the model goes. Default: runs/NAME_OF_DATA.")
    overwrite_output_dir: bool = option(False, "Replace the model that output_dir holds.")
    resume_from_checkpoint: str | None = option(
        None,
        "Resume an interrupted run: a checkpoint folder; with no value, output_dir's last; "
        "auto: the last if there is one, for jobs that are started again by themselves.",
        nargs="?",
        const="last",
    )
    time_budget: str | None = option(
        None,
        "The time that a run may take, as 5m or 1h30m: backbone, size, freeze and num_train_epochs "
        "are chosen to give the best model within it, except those that you set.",
    )
    num_train_epochs: float = option(16, "How often training sees every image.")
    per_device_train_batch_size: int = option(32, "Images a step, on each device.")
    per_device_eval_batch_size: int = option(64, "Images a step in evaluation, on each device.")
    learning_rate: float | None = option(
        None,
        "Peak learning rate. Default: 3e-4 for nets with batch norm, 1e-3 where their head starts "
        "at random, and 1e-4 for the others.",
    )
    lr_scheduler_type: str = option(
        "cosine",
        "Shape of the learning rate: step, exponential, time_based, one_cycle, or any of "
        "transformers' (cosine, linear, ...).",
    )
    warmup_steps: float = option(0.1, "Steps of linear warmup, or, below 1, their share of all.")
    scale_learning_rate: str = option(
        "none",
        "Scale learning_rate with the batch of all devices and accumulated steps, against 32: "
        "none, sqrt (Adam and its kin) or linear (SGD).",
    )
    weight_decay: float = option(0.05, "Decay of the weights; norms and biases are left out.")
    layer_decay: float = option(
        1.0, "Learning rate of each layer as a share of the next one's, the head's being full."
    )
    optim: str = option("adamw_torch_fused", "Optimizer: transformers' names, or timm:NAME.")
    max_grad_norm: float = option(1.0, "Clip the gradient to this norm; 0 for no clipping.")
    clip_mode: str = option(
        "norm", "How gradients are clipped: norm, value, or agc (adaptive, by unit)."
    )
    max_grad_value: float = option(0.05, "With clip_mode=value: the largest entry of a gradient.")
    agc_clip_factor: float = option(
        0.01, "With clip_mode=agc: the largest norm of a unit's gradient against its weights'."
    )
    max_skipped_steps: int = option(
        0,
        "How many steps with a NaN or infinite gradient may be skipped; at the next one training "
        "stops. Checking for them makes a GPU wait at each step.",
    )
    batch_norm: str | None = option(
        None,
        "Batch norm: train, freeze, freeze_stats, sync (GPUs) or recalibrate. Default: freeze, but "
        "train where the weights start at random.",
    )
    linear_probe: bool = option(
        True,
        "Start the head from a logistic regression on the pretrained backbone's features, so that "
        "training doesn't distort them; otherwise it starts at random.",
    )
    ema_decay: float | None = option(
        None,
        "Decay of a moving average of the weights, with warmup; 0 for none. Default: 0.995, but "
        "none under FSDP and DeepSpeed, which divide the weights.",
    )
    label_smoothing_factor: float = option(0.1, "Share of each label spread over all classes.")
    mixup_alpha: float = option(0.0, "Blend pairs of images and labels (0.2 is usual).")
    cutmix_alpha: float = option(0.0, "Paste a part of one image into another (1.0 is usual).")
    mix_probability: float = option(1.0, "Share of the batches that are mixed, where any are.")
    class_weights: str = option(
        "none", "Weight of a class in the loss: none, balanced or effective (number of photos)."
    )
    balanced_sampler: bool = option(False, "Draw every class equally often.")
    focal_gamma: float = option(0.0, "Focal loss: down-weight what is easy (2 is usual).")
    hub_license: str | None = option(
        None, "With push_to_hub: the Hub's name of the model's license, as apache-2.0."
    )
    hub_report: bool = option(
        True, "With push_to_hub: publish the report and examples as well, which show some photos."
    )
    reject_rate: float = option(
        0.05,
        "Share of known fruit that may be rejected as unknown, which sets the OOD threshold; 0 "
        "rejects nothing.",
    )
    early_stopping_patience: int = option(
        0, "Stop after this many validations without a better one; 0 for never."
    )
    bf16: bool | None = option(
        None,
        "Compute in bfloat16. Default: on GPUs that have it, and on CPUs where it is faster.",
        nargs="?",
        const=True,
    )
    eval_strategy: str = option("epoch", "When to validate: no, steps or epoch.")
    save_strategy: str = option("epoch", "When to save a checkpoint: no, steps, epoch or best.")
    save_total_limit: int | None = option(2, "How many checkpoints to keep; the best one is kept.")
    load_best_model_at_end: bool = option(True, "End with the best epoch, not with the last one.")
    metric_for_best_model: str | None = option(
        None,
        "What makes an epoch the best: accuracy, top5_accuracy, macro_f1, loss, or accuracy_2se "
        "(default): accuracy, but a later epoch wins over one that is better by less than two "
        "standard errors. Early stopping and reduce_lr_on_plateau default to accuracy.",
    )
    logging_steps: float = option(10, "Steps between two reports of the loss.")
    dataloader_num_workers: int | None = option(
        None, "DataLoader workers. Default: by the number of cores and devices."
    )
    logging_nan_inf_filter: bool = option(
        False, "Leave NaN and infinite losses out of the log; a GPU waits at each step for it."
    )
    remove_unused_columns: bool = option(False, "Must stay off: images are made on the fly.")
    report_to: str | None = option("none", "Experiment trackers: tensorboard, wandb, ... or none.")
