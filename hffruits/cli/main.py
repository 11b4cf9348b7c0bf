"""The `hffruits` command: a table of commands, each of which imports what it needs when called."""

import argparse
import importlib
import io
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from hffruits import __version__
from hffruits.core.errors import DISK_FULL, InputError, PeersLostError, RunInterruptedError
from hffruits.core.escaping import printable
from hffruits.core.malloc import keep_freed_memory
from hffruits.models.artifact import REPORT

_LOGGED_EVERY = "20"  # seconds; where a progress bar is written to a file, and from then on


def run_train(argv: list[str]) -> None:
    """Fine-tune a model on a folder of fruit photos."""
    config = importlib.import_module("hffruits.training.arguments")
    arguments = config.parse_train_arguments(argv, prog="hffruits train")
    training = importlib.import_module("hffruits.training.run")
    metrics = training.train(*arguments, command=_command(["train", *argv]))
    if _is_main_process():
        _say(importlib.import_module("hffruits.cli.output").format_summary(metrics))


def _command(words: list[str]) -> str:
    """What was asked of us, as it may be told: without the token."""
    hidden = []
    for word in words:
        after = hidden and re.fullmatch("--hub[_-]token", hidden[-1])
        hidden.append("hf_***" if after else re.sub("^(--hub[_-]token=).*", r"\1hf_***", word))
    return shlex.join(["hffruits", *hidden])


def run_explore(argv: list[str]) -> None:
    """Find what is wrong with the data: one page, with the commands that fix it."""
    config = importlib.import_module("hffruits.training.arguments")
    parser = config.data_parser("explore", run_explore.__doc__)
    parser.add_argument(
        "--output_dir", type=Path, default=Path("exploration"), help="[%(default)s]"
    )
    parser.add_argument(
        "--max_images",
        type=int,
        default=20_000,
        help="photos to compute features of, for label errors and the map [%(default)s]",
    )
    data, args = config.parse_data_arguments(parser, argv)
    if data.split_lists or (data.streaming and data.exclude):
        raise InputError("split_lists, exclude: explore reads all photos. Leave them out.")
    explore = importlib.import_module("hffruits.exploration.run").explore
    options = {"max_images": args.max_images, "seed": args.seed}
    record = explore(data, output_dir=args.output_dir, **options)
    for finding in record["findings"]:
        _say(f"{finding['severity']:8}  {finding['title']}")
    _say_page(args.output_dir / "explore.html")


def run_split(argv: list[str]) -> None:
    """Write leak-free split lists, k-fold too; repair a data set without touching it."""
    config = importlib.import_module("hffruits.training.arguments")
    parser = config.data_parser("split", run_split.__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("splits"), help="[%(default)s]")
    parser.add_argument("--folds", type=int, default=0, help="k of a k-fold split")
    parser.add_argument("--resplit", action="store_true", help="forget the data's own splits")
    parser.add_argument(
        "--repair",
        default="none",
        metavar="list|copy",
        help="leave out broken files, photos in two classes, leaks and exact duplicates: as a "
        "list, or as a clean copy of the photos",
    )
    data, args = config.parse_data_arguments(parser, argv)
    for option, given in {"streaming": data.streaming, "split_lists": data.split_lists}.items():
        if given:
            raise InputError(f"{option}: doesn't go with making lists. Leave it out.")
    split = importlib.import_module("hffruits.exploration.split_dataset").split
    options = {"repair": args.repair, "folds": args.folds, "resplit": args.resplit}
    result = split(data, output_dir=args.output_dir, seed=args.seed, **options)
    for number, images in enumerate(result["images"], 1):
        name = f"Fold {number}" if args.folds else "Split"
        _say(f"{name:10}{', '.join(f'{split} {count:,}' for split, count in images.items())}")
    for reason, count in result["left_out"].items():
        _say(f"Left out  {count:,}: {reason}")
    _say(f"Written   {args.output_dir}")
    folder = args.output_dir / "photos"
    if args.repair == "copy":
        words = ["hffruits", "train", str(folder)]
        words += ["--label_from", "path"] if data.label_from == "path" else []
        _say(f"Train     {shlex.join(words)}")
    else:
        fold = args.output_dir / "fold-1" if args.folds else args.output_dir
        words = ["hffruits", "train", *data.words, "--split_lists", str(fold)]
        _say(f"Train     {shlex.join(words)}")


def run_preview(argv: list[str]) -> None:
    """Draw what training will see of some photos."""
    parser = _parser_beside_training("preview", run_preview)
    parser.add_argument("--output", type=Path, default=Path("preview.png"), help="[%(default)s]")
    parser.add_argument("--photos", type=int, default=6, help="rows [%(default)s]")
    parser.add_argument("--views", type=int, default=7, help="augmented columns [%(default)s]")
    args, arguments = _parse_beside_training(parser, argv)
    preview = importlib.import_module("hffruits.training.augmentation_preview").preview
    preview(*arguments, file=args.output, photos=args.photos, views=args.views)
    _say(f"Drawn     {args.output}")


def run_plot_lr(argv: list[str]) -> None:
    """Draw learning-rate schedules."""
    parser = argparse.ArgumentParser(prog="hffruits plot-lr", description=run_plot_lr.__doc__)
    parser.add_argument("schedules", nargs="*", help="names; default: all that need no validation")
    parser.add_argument("--output", type=Path, default=Path("lr.png"), help="[%(default)s]")
    parser.add_argument("--steps", type=int, default=1000, help="of training [%(default)s]")
    parser.add_argument("--warmup_steps", type=int, default=100, help="of them [%(default)s]")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="peak [%(default)s]")
    parser.add_argument(
        "--lr_scheduler_kwargs", type=json.loads, default={}, help='JSON, as in {"gamma": 0.5}'
    )
    args = parser.parse_args(argv)
    schedules = importlib.import_module("hffruits.training.lr_schedules")
    rates = schedules.compare_schedules(
        args.schedules,
        peak=args.learning_rate,
        total=args.steps,
        warmup=args.warmup_steps,
        options=args.lr_scheduler_kwargs,
    )
    importlib.import_module("hffruits.core.plots").draw_schedules(rates, args.output)
    _say(f"Drawn     {args.output}")


def run_find_lr(argv: list[str]) -> None:
    """Test which learning rates train: raise it step by step, and draw the loss."""
    parser = _parser_beside_training("find-lr", run_find_lr)
    parser.add_argument("--output", type=Path, default=Path("find_lr.png"), help="[%(default)s]")
    parser.add_argument("--lowest", type=float, default=1e-6, help="first rate [%(default)s]")
    parser.add_argument("--highest", type=float, default=1.0, help="last rate [%(default)s]")
    parser.add_argument("--steps", type=int, default=100, help="of training [%(default)s]")
    args, arguments = _parse_beside_training(parser, argv)
    options = {"lowest": args.lowest, "highest": args.highest, "steps": args.steps}
    finder = importlib.import_module("hffruits.training.lr_finder")
    result = finder.find_lr(*arguments, file=args.output, **options)
    if args.output.is_file():
        _say(f"Drawn     {args.output}")
    _say(f"Suggested --learning_rate {result.suggestion:.1e}")


def run_search(argv: list[str]) -> None:
    """Search hyper-parameters; stop it at any time, and the same command goes on."""
    parser = _parser_beside_training("search", run_search)
    parser.add_argument("--trials", type=int, default=20, help="in all [%(default)s]")
    args, arguments = _parse_beside_training(parser, argv)
    search = importlib.import_module("hffruits.training.hyperparameter_search")
    result = search.search(*arguments, trials=args.trials)
    _say(f"{result.trials} trials; the best has {result.best_accuracy:.1%} on validation")
    command = search.format_command(result.best, _without(argv, "trials", "output_dir"))
    program = importlib.import_module("hffruits.cli.output").program_path()
    _say(f"Train     {shlex.quote(program)} {command}")


def _parser_beside_training(name: str, run: Callable[[list[str]], None]) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"hffruits {name}",
        description=run.__doc__,
        usage=f"hffruits {name} [DATA_DIR] [--flag value ...]",
        epilog="Takes the flags of `hffruits train` as well.",
        allow_abbrev=False,
    )


def _parse_beside_training(
    parser: argparse.ArgumentParser, argv: list[str]
) -> tuple[argparse.Namespace, tuple]:
    """A command's own flags, and those of training."""
    args, rest = parser.parse_known_args(argv)
    config = importlib.import_module("hffruits.training.arguments")
    return args, config.parse_train_arguments(rest, prog=parser.prog)


def _without(argv: list[str], *names: str) -> list[str]:
    """A command line without some of its flags and their values."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        flags.add_argument(f"--{name}", f"--{name.replace('_', '-')}")
    return flags.parse_known_args(argv)[1]


_MODEL = "folder that training wrote, or Hub id"


def run_evaluate(argv: list[str]) -> None:
    """Measure a trained model: figures with intervals, and a page to look at."""
    config = importlib.import_module("hffruits.training.arguments")
    parser = config.data_parser("evaluate", run_evaluate.__doc__, model=_MODEL)
    parser.add_argument("--output_dir", type=Path, default=Path("evaluation"), help="[%(default)s]")
    parser.add_argument(
        "--split", help="train, validation or test [test, else validation, else everything]"
    )
    parser.add_argument(
        "--tta",
        default="",
        metavar="VIEWS",
        help="average views of a photo: flip, zoom, whole, corners",
    )
    parser.add_argument(
        "--unknown_dir", type=Path, help="photos of what it should report as unknown"
    )
    parser.add_argument(
        "--corruptions", action="store_true", help="also on blurred, dark, noisy ... photos; slow"
    )
    parser.add_argument("--batch_size", type=int, default=32, help="photos a step [%(default)s]")
    data, args = config.parse_data_arguments(parser, argv)
    _refuse_training_flags(data)
    evaluation = importlib.import_module("hffruits.evaluation.run")
    record = evaluation.evaluate(
        args.model,
        data,
        output_dir=args.output_dir,
        split=args.split,
        tta=tuple(filter(None, (name.strip() for name in args.tta.split(",")))),
        unknown_dir=args.unknown_dir,
        corruptions=args.corruptions,
        batch_size=args.batch_size,
    )
    if _is_main_process():
        _say(importlib.import_module("hffruits.cli.output").format_evaluation(record))
        _say_page(args.output_dir / REPORT)


_OF_TRAINING = ("augment", "image_cache", "image_cache_size", "coarse_labels", "split_by")


def _refuse_training_flags(data: Any) -> None:
    for option in fields(data):
        if option.name in _OF_TRAINING and getattr(data, option.name) != option.default:
            raise InputError(f"{option.name}: acts in training alone. Leave it out.")


def run_compare(argv: list[str]) -> None:
    """Compare two trained models on the same photos: is the difference more than chance?"""
    config = importlib.import_module("hffruits.training.arguments")
    parser = config.data_parser("compare", run_compare.__doc__, model_a=_MODEL, model_b="another")
    parser.add_argument("--output_dir", type=Path, default=Path("comparison"), help="[%(default)s]")
    parser.add_argument("--split", help="train, validation or test [as `hffruits evaluate`]")
    parser.add_argument("--batch_size", type=int, default=32, help="photos a step [%(default)s]")
    data, args = config.parse_data_arguments(parser, argv)
    _refuse_training_flags(data)
    record = importlib.import_module("hffruits.evaluation.comparison").compare(
        args.model_a,
        args.model_b,
        data,
        output_dir=args.output_dir,
        split=args.split,
        batch_size=args.batch_size,
    )
    if _is_main_process():
        for name, row in record["metrics"].items():
            _say(
                f"{name:18}{row['a']:.1%}  {row['b']:.1%}  {row['difference']:+.1%} "
                f"({row['low']:+.1%} to {row['high']:+.1%})"
            )
        _say(record["verdict"])
        _say_page(args.output_dir / "compare.html")


def run_export(argv: list[str]) -> None:
    """Write a trained model for another runtime: quicker, smaller, or for a browser."""
    config = importlib.import_module("hffruits.training.arguments")
    parser = config.data_parser("export", run_export.__doc__, model=_MODEL)
    parser.add_argument(
        "--format", default="openvino", help="onnx, openvino, web, torch [%(default)s]"
    )
    parser.add_argument("--precision", default="fp32", help="fp32, fp16, bf16, int8 [%(default)s]")
    parser.add_argument("--output_dir", type=Path, help="[MODEL-format-precision]")
    parser.add_argument(
        "--max_accuracy_drop",
        type=float,
        default=0.005,
        help="accuracy that may be lost [%(default)s]",
    )
    parser.add_argument("--force", action="store_true", help="keep it, whatever it loses")
    data, args = config.parse_data_arguments(parser, argv)
    _refuse_training_flags(data)
    record = importlib.import_module("hffruits.exporters.run").export(
        args.model,
        data,
        format=args.format,
        precision=args.precision,
        output_dir=args.output_dir,
        max_accuracy_drop=args.max_accuracy_drop,
        force=args.force,
    )
    _say(importlib.import_module("hffruits.cli.output").format_export(record))


def run_predict(argv: list[str]) -> None:
    """Label pictures with a trained model, or millions of them into a table."""
    parser = argparse.ArgumentParser(prog="hffruits predict", description=run_predict.__doc__)
    parser.add_argument("model", help=_MODEL)
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--revision", help="which commit, branch or tag of a Hub model")
    parser.add_argument("--top_k", type=int, default=1, help="labels a picture [%(default)s]")
    parser.add_argument("--batch_size", type=int, default=32, help="pictures a step [%(default)s]")
    parser.add_argument(
        "--precision", default="fp32", help="bf16: quicker where there are units for it [fp32]"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="write a table (.csv, .jsonl, .parquet); the same command goes on if it was stopped, "
        "and `torchrun --nproc_per_node N -m hffruits predict ...` spreads it over processes",
    )
    args = parser.parse_args(argv)
    if not args.output and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("--output: several processes need a table to write. Name one.")
    if args.output:
        if args.revision:
            raise InputError("revision: doesn't go with --output yet. Leave one of them out.")
        _predict_into_table(args)
        return
    predict = importlib.import_module("hffruits.inference.classifier")
    paths = predict.find_images(args.images)
    options = {"revision": args.revision, "precision": args.precision}
    fruits = predict.FruitClassifier.from_pretrained(args.model, **options)
    bad: list[InputError] = []
    options = {"top_k": args.top_k, "batch_size": args.batch_size, "on_unreadable": bad.append}
    for result in fruits.stream(paths, **options):
        scores = ", ".join(f"{label} {score:.1%}" for label, score in result.top)
        scores = scores if result.known else f"unknown (nearest {scores})"
        _say(f"{printable(result.path)}\t{printable(scores)}")
    for error in bad[:-1]:
        _tell(f"hffruits: error: {error}")
    if bad:
        raise bad[-1]


def _predict_into_table(args: argparse.Namespace) -> None:
    labelled = importlib.import_module("hffruits.inference.batch_predict").label_into_table(
        args.model,
        args.images,
        args.output,
        top_k=args.top_k,
        batch_size=args.batch_size,
        precision=args.precision,
    )
    if _is_main_process():
        _say(labelled or "Complete before; the other processes go on")


def run_push(argv: list[str]) -> None:
    """Put a trained, taught or exported model on the Hub, with its card, in one commit."""
    parser = argparse.ArgumentParser(prog="hffruits push", description=run_push.__doc__)
    parser.add_argument("run", type=Path, help="the model's folder")
    parser.add_argument("repo_id", help="user/name, made if it is new; or a name of yours")
    _add_push_flags(parser)
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="USER/NAME",
        help="the Hub data set that it learned from, for the card [a run knows its own]",
    )
    parser.add_argument("--card", type=Path, metavar="FILE", help="take this for a model card")
    parser.add_argument(
        "--no_report", action="store_true", help="keep report.html and its photos here"
    )
    args = parser.parse_args(argv)
    pushed = importlib.import_module("hffruits.hub.push_model").push(
        args.run,
        args.repo_id,
        private=args.private,
        license=args.license,
        datasets=tuple(args.dataset),
        card=args.card,
        report=not args.no_report,
    )
    _tell_push(pushed)
    _say(f'Load      FruitClassifier.from_pretrained("{pushed.repo_id}")')
    _tell_license(args.license or args.card)


def run_push_data(argv: list[str]) -> None:
    """Put photos on the Hub as a cleaned data set: no broken files, leaks or copies."""
    config = importlib.import_module("hffruits.training.arguments")
    then = {"repo_id": "user/name, made if it is new; or a name of yours"}
    parser = config.data_parser("push-data", run_push_data.__doc__, then=then)
    _add_push_flags(parser)
    parser.add_argument("--resplit", action="store_true", help="forget the data's own splits")
    parser.add_argument(
        "--keep_location",
        action="store_true",
        help="leave the positions in that phones write into photos",
    )
    data, args = config.parse_data_arguments(parser, argv)
    pushed, written = importlib.import_module("hffruits.hub.push_dataset").push_data(
        data,
        args.repo_id,
        private=args.private,
        license=args.license,
        resplit=args.resplit,
        keep_location=args.keep_location,
        seed=args.seed,
    )
    _say(f"Photos    {', '.join(f'{split} {n:,}' for split, n in written['images'].items())}")
    for reason, count in written["left_out"].items():
        _say(f"Left out  {count:,}: {reason}")
    if written["located"]:
        _say(f"Removed   the position from {written['located']:,} photos")
    _tell_push(pushed)
    _say(f"Train     hffruits train {pushed.repo_id}")
    _tell_license(args.license)


def run_space(argv: list[str]) -> None:
    """Put the demo of a Hub model online as a Space, tried before it is pushed."""
    parser = argparse.ArgumentParser(prog="hffruits space", description=run_space.__doc__)
    parser.add_argument("model", help="user/name of a model on the Hub: see hffruits push")
    parser.add_argument("repo_id", nargs="?", help="user/name of the Space, made if it is new")
    parser.add_argument("--revision", help="which commit, branch or tag of the model")
    parser.add_argument("--output_dir", type=Path, help="write its files here, too")
    parser.add_argument("--title", default="What fruit is this?", help="[%(default)s]")
    _add_push_flags(parser)
    parser.add_argument(
        "--check",
        default="full",
        metavar="full|quick|none",
        help="start its files first: with its requirements in an environment of their own "
        "(minutes, some GB), or with the packages that are installed here [%(default)s]",
    )
    args = parser.parse_args(argv)
    made = importlib.import_module("hffruits.hub.space").make_space(**vars(args))
    if args.output_dir:
        _say(f"Written   {args.output_dir}")
    if made.pushed:
        _tell_push(made.pushed)
    if made.private_model:
        _say(f"Private   {args.model} is: the Space needs a secret HF_TOKEN that may read it")


def _add_push_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--private", action="store_true", help="a repository that only you see")
    parser.add_argument("--license", help="the Hub's name of one: apache-2.0, cc-by-4.0, ...")


def _tell_license(given: object) -> None:
    if not given:
        _say("Licence   none given now: without one, others may look and not use it (--license)")


def _tell_push(pushed: Any) -> None:
    commit = f"commit {pushed.commit[:7]}"
    _say(f"Pushed    {pushed.repo_id} ({commit if pushed.changed else f'nothing new: {commit}'})")
    _say(f"Open      {pushed.url}")


def run_demo(argv: list[str]) -> None:
    """Open a web page that labels pictures, one or many, and learns new fruits."""
    parser = argparse.ArgumentParser(prog="hffruits demo", description=run_demo.__doc__)
    model = "folder or Hub id [the newest below runs/, else the bundled ImageNet model]"
    parser.add_argument("model", nargs="?", help=model)
    parser.add_argument("--model", dest="named", help="the same")
    parser.add_argument("--revision", help="which commit, branch or tag of a Hub model")
    parser.add_argument("--share", action="store_true", help="make a public link, for 3 days")
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="ask visitors for these; HFFRUITS_AUTH keeps them out of the list of processes",
    )
    parser.add_argument(
        "--data_dir",
        type=Path,
        metavar="DIR",
        help="what the model was trained on: show visitors a photo of each class [drawn ones]",
    )
    parser.add_argument(
        "--feedback_dir",
        type=Path,
        metavar="DIR",
        help="keep what visitors say of answers here [feedback; off where others than this "
        "computer reach the page]",
    )
    parser.add_argument(
        "--save_dir",
        type=Path,
        metavar="DIR",
        help="save taught models below this folder [runs; off as above]",
    )
    args = parser.parse_args(argv)
    importlib.import_module("hffruits.demo.app").launch_demo(
        args.named or args.model,
        revision=args.revision,
        share=args.share,
        auth=args.auth,
        data_dir=args.data_dir,
        feedback_dir=args.feedback_dir,
        save_dir=args.save_dir,
    )


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": run_train,
    "explore": run_explore,
    "split": run_split,
    "preview": run_preview,
    "plot-lr": run_plot_lr,
    "find-lr": run_find_lr,
    "search": run_search,
    "evaluate": run_evaluate,
    "compare": run_compare,
    "export": run_export,
    "predict": run_predict,
    "push": run_push,
    "push-data": run_push_data,
    "space": run_space,
    "demo": run_demo,
}


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, or one of errors.py's; one line says why."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="hffruits",
        description="Fruit photos in, a model you can trust out.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {name:11}{run.__doc__}" for name, run in COMMANDS.items())
        + "\n\n`hffruits COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"hffruits {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    args = parser.parse_args(argv[:1])
    keep_freed_memory()
    if not (sys.stderr and sys.stderr.isatty()):
        # in a log each update is kept; tqdm reads these when it is imported, in children too
        for name in ("TQDM_MININTERVAL", "TQDM_MAXINTERVAL", "TQDM_DELAY"):
            os.environ.setdefault(name, _LOGGED_EVERY)
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    if isinstance(sys.stdout, io.TextIOWrapper):  # else a name that it can't encode would raise
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.getLogger("huggingface_hub").propagate = False  # it prints by itself
    logging.getLogger("hffruits").setLevel(logging.INFO if _is_main_process() else logging.ERROR)
    try:
        COMMANDS[args.command](argv[1:])
    except InputError as error:
        if _is_main_process():
            _tell(f"hffruits: error: {error}")
        return error.code
    except (PeersLostError, RunInterruptedError) as error:
        if (
            isinstance(error, PeersLostError) or _is_main_process()
        ):  # the main one may be what is lost
            _tell(f"hffruits: {error}")
        return error.code
    except BrokenPipeError:  # `hffruits predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = f"{error.filename}: " if error.filename else ""
        notes = getattr(error, "__notes__", [])  # what is saved already, say
        _tell(" ".join([f"hffruits: error: {where}the disk is full. Free some.", *notes]))
        return 2
    except KeyboardInterrupt:
        journal = any(word.startswith("--output") for word in argv)
        hint = _GOES_ON.get(args.command) if journal or args.command == "train" else None
        print(f"\ninterrupted{hint or ''}", file=sys.stderr)
        return 130
    return 0


_GOES_ON = {
    "train": "; the same command with --resume_from_checkpoint --output_dir RUN goes on",
    "predict": "; the same command goes on",
}


def _say(text: object) -> None:
    """On stdout. Names of files and classes can't steer the terminal."""
    print(printable(text, keep="\n\t"), flush=True)


def _say_page(page: Path) -> None:
    if page.is_file():  # else it was warned of
        _say(f"Open      {page}")


class _PlainFormatter(logging.Formatter):
    """Log lines that can't steer the terminal either."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")


def _tell(text: str) -> None:
    """On stderr, in a line of its own, where a progress bar may stand."""
    text = printable(text)
    bars = sys.modules.get("tqdm")
    bars.tqdm.write(text, file=sys.stderr) if bars else print(text, file=sys.stderr)


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def run() -> None:
    """What the installed `hffruits` command calls."""
    sys.exit(main())
