"""The `hffruits` command: a table of commands, each of which imports what it needs when called."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Callable

from hffruits import __version__
from hffruits.errors import InputError


def run_train(argv: list[str]) -> None:
    """Fine-tune a model on a folder of fruit photos."""
    launching = importlib.import_module("hffruits.launching")
    if count := launching.missing_processes():
        sys.exit(launching.start_processes(count, ["train", *argv]))
    config = importlib.import_module("hffruits.config")
    arguments = config.parse_train_arguments(argv, prog="hffruits train")
    training = importlib.import_module("hffruits.train")
    metrics = training.train(*arguments)
    if _is_main_process():
        print(importlib.import_module("hffruits.summary").format_summary(metrics))


def run_predict(argv: list[str]) -> None:
    """Label pictures with a trained model."""
    parser = argparse.ArgumentParser(prog="hffruits predict", description=run_predict.__doc__)
    parser.add_argument("model", help="folder that training wrote, or Hub id")
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--top_k", type=int, default=1, help="labels a picture [%(default)s]")
    parser.add_argument("--batch_size", type=int, default=32, help="pictures a step [%(default)s]")
    args = parser.parse_args(argv)
    predict = importlib.import_module("hffruits.predict")
    paths = predict.find_images(args.images)
    fruits = predict.FruitClassifier.from_pretrained(args.model)
    bad: list[InputError] = []
    options = {"top_k": args.top_k, "batch_size": args.batch_size, "on_bad": bad.append}
    for result in fruits.stream(paths, **options):
        scores = ", ".join(f"{label} {score:.1%}" for label, score in result.top)
        print(f"{result.path}\t{scores}", flush=True)
    for error in bad[:-1]:
        print(f"hffruits: error: {error}", file=sys.stderr)
    if bad:
        raise bad[-1]


def run_demo(argv: list[str]) -> None:
    """Open a web page that labels pictures."""
    parser = argparse.ArgumentParser(prog="hffruits demo", description=run_demo.__doc__)
    parser.add_argument("model", nargs="?", help="folder or Hub id; default: the newest in runs/")
    parser.add_argument("--share", action="store_true", help="also under a public gradio.live link")
    args = parser.parse_args(argv)
    importlib.import_module("hffruits.demo").launch_demo(args.model, share=args.share)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": run_train,
    "predict": run_predict,
    "demo": run_demo,
}


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for bad input (one line says why), 130."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="hffruits",
        description="Fruit photos in, a model you can trust out.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {name:10}{run.__doc__}" for name, run in COMMANDS.items())
        + "\n\n`hffruits COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"hffruits {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    args = parser.parse_args(argv[:1])
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hffruits").setLevel(logging.INFO if _is_main_process() else logging.ERROR)
    try:
        COMMANDS[args.command](argv[1:])
    except InputError as error:
        if _is_main_process():
            print(f"hffruits: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `hffruits predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def run() -> None:
    """What the installed `hffruits` command calls."""
    sys.exit(main())
