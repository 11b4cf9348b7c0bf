"""The `hffruits` command: a table of commands, each of which imports what it needs when called."""

import argparse
import errno
import io
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Collection
from typing import Any

import hffruits
from hffruits.cli import parser as parsers
from hffruits.cli.loading import load
from hffruits.cli.wrapping import terminal_width, wrap
from hffruits.core.counts import counted
from hffruits.core.errors import (
    DISK_FULL,
    FewWarnings,
    InputError,
    PeersLostError,
    RunInterruptedError,
)
from hffruits.core.escaping import printable, shorten
from hffruits.core.flags import OneLineParser, spell_as_flags
from hffruits.core.imports import import_module
from hffruits.core.launch import is_main_process, launched_processes
from hffruits.core.malloc import keep_freed_memory
from hffruits.core.names import did_you_mean


def run_train(argv: list[str]) -> None:
    """Fine-tune a model on a folder of fruit photos."""
    arguments = parsers.parse_train(argv)
    training = load("hffruits.training.run")
    metrics = training.train(*arguments, command=parsers.command_line("train", argv))
    if is_main_process():
        _print(_output().format_summary(metrics))


def run_explore(argv: list[str]) -> None:
    """Find what is wrong with the data: one page, with the commands that fix it."""
    data, options = parsers.parse_data(parsers.explore_parser(run_explore.__doc__), argv)
    command = parsers.command_line("explore", argv)
    exploration = load("hffruits.exploration.run").explore(data, **options, command=command)
    for finding in exploration.findings:
        _print(f"{finding['severity']:8}  {finding['title']}")
    _print_report(exploration)


def run_split(argv: list[str]) -> None:
    """Write leak-free split lists, k-fold too; repair a dataset without touching it."""
    data, options = parsers.parse_data(parsers.split_parser(run_split.__doc__), argv)
    lists = load("hffruits.exploration.split_dataset").split(data, **options)
    for number, images in enumerate(lists.images, 1):
        name = f"Fold {number}" if options["folds"] else "Split"
        _print(f"{name:10}{', '.join(f'{split} {count:,}' for split, count in images.items())}")
    _print_left_out(lists.left_out)
    _print(f"Saved     {lists.folder}")
    if lists.photos:
        words = [str(lists.photos)]
        words += ["--label_from", "path"] if data.label_from == "path" else []
    else:
        words = [*data.words, "--split_lists", str(lists.lists[0])]
    _print(f"Train     {shlex.join(['hffruits', 'train', *words])}")


def run_preview(argv: list[str]) -> None:
    """Draw what training will see of some photos."""
    parser = parsers.preview_parser(run_preview.__doc__)
    module = "hffruits.training.augmentation_preview"
    args, arguments = parsers.parse_beside_training(parser, argv, module=module)
    preview = import_module(module).preview
    preview(*arguments, file=args.output, photos=args.photos, views=args.views)
    _print(f"Saved     {args.output}")


def run_plot_lr(argv: list[str]) -> None:
    """Draw learning-rate schedules."""
    args = parsers.plot_lr_parser(run_plot_lr.__doc__).parse_args(argv)
    functions = import_module("hffruits.training.schedule_functions")
    upstream = import_module("hffruits.training.transformers_fields").read_schedule_names()
    if upstream is not None:
        known = [*functions.SCHEDULES, *upstream]
        functions.check_schedules(args.schedules, known, steps=args.steps, peak=args.learning_rate)
    only_ours = args.schedules and set(args.schedules) <= set(functions.SCHEDULES)
    module = functions if only_ours else load("hffruits.training.lr_schedules")
    rates = module.compare_schedules(
        args.schedules,
        peak=args.learning_rate,
        total=args.steps,
        warmup=args.warmup_steps,
        options=args.lr_scheduler_kwargs,
    )
    import_module("hffruits.core.plots").draw_schedules(rates, args.output)
    _print(f"Saved     {args.output}")


def run_find_lr(argv: list[str]) -> None:
    """Test which learning rates train: raise it step by step, and draw the loss."""
    parser = parsers.find_lr_parser(run_find_lr.__doc__)
    module = "hffruits.training.lr_finder"
    args, arguments = parsers.parse_beside_training(parser, argv, module=module)
    options = {"lowest": args.lowest, "highest": args.highest, "steps": args.steps}
    finder = import_module(module)
    result = finder.find_lr(*arguments, file=args.output, **options)
    if args.output.is_file():
        _print(f"Saved     {args.output}")
    _print(f"Suggested --learning_rate {result.suggestion:.1e}")


def run_search(argv: list[str]) -> None:
    """Search hyper-parameters; stop it at any time, and the same command resumes."""
    parser = parsers.search_parser(run_search.__doc__)
    module = "hffruits.training.hyperparameter_search"
    args, arguments = parsers.parse_beside_training(parser, argv, module=module)
    search = import_module(module)
    result = search.search(*arguments, trials=args.trials)
    _print(
        f"{counted(result.trials, 'trial')}; the best has {result.best_accuracy:.1%} on validation"
    )
    apart = ("trials", "output_dir", *(["num_train_epochs"] if result.epochs else []), *result.best)
    command = search.format_command(result, parsers.without(argv, *apart))
    _print(f"Train     hffruits {command}")


def run_evaluate(argv: list[str]) -> None:
    """Measure a trained model: metrics with intervals, and an HTML report."""
    data, options = parsers.parse_data(parsers.evaluate_parser(run_evaluate.__doc__), argv)
    _check_model_names(options["model"])
    command = parsers.command_line("evaluate", argv)
    evaluation = load("hffruits.evaluation.run").evaluate(data=data, **options, command=command)
    if is_main_process():
        _print(_output().format_evaluation(evaluation.metrics))
        _print_report(evaluation)


def run_compare(argv: list[str]) -> None:
    """Compare two trained models on the same photos: is the difference more than chance?"""
    data, options = parsers.parse_data(parsers.compare_parser(run_compare.__doc__), argv)
    _check_model_names(options["model_a"], options["model_b"])
    command = parsers.command_line("compare", argv)
    comparison = load("hffruits.evaluation.comparison").compare(
        data=data, **options, command=command
    )
    if is_main_process():
        _print(_output().format_comparison(comparison.record))
        _print_report(comparison)


def run_export(argv: list[str]) -> None:
    """Write a trained model for another runtime: faster, smaller, or for a browser."""
    data, options = parsers.parse_data(parsers.export_parser(run_export.__doc__), argv)
    _check_model_names(options["model"])
    exported = load("hffruits.exporters.run").export(data=data, **options)
    _print(_output().format_export(exported.folder, exported.record))


def run_predict(argv: list[str]) -> None:
    """Label photos with a trained model, or millions of them into a table."""
    args = parsers.predict_parser(run_predict.__doc__).parse_args(argv)
    _check_model_names(args.model)
    if not args.output and launched_processes() > 1:
        raise InputError("--output: several processes need a table to write. Name one.")
    sources = import_module("hffruits.inference.sources")
    if args.output:
        if launched_processes() == 1:  # else the first one of them does
            sources.expand_sources(args.images)
        if args.revision:
            raise InputError("revision: doesn't go with --output yet. Leave one of them out.")
        _predict_into_table(args)
        return
    paths = sources.find_images(args.images)
    predict = load("hffruits.inference.classifier")
    options = {"revision": args.revision, "precision": args.precision}
    fruits = predict.FruitClassifier.from_pretrained(args.model, **options)
    bad: list[InputError] = []
    options = _given(args, *_PREDICTING)
    options["on_unreadable"] = bad.append
    for result in fruits.stream(paths, **options):
        scores = ", ".join(f"{label} {score:.1%}" for label, score in result.top)
        scores = scores if result.known else f"unknown (nearest {scores})"
        _print(f"{printable(result.path)}\t{printable(scores)}")
    if len(bad) > FewWarnings.MOST:
        said = f"{len(bad)} of {counted(len(paths), 'photo')} can't be read."
        bad = [*bad[: FewWarnings.MOST], InputError(f"{said} --output FILE lists all of them.")]
    for error in bad[:-1]:
        _print_error(f"hffruits predict: error: {_with_flags(error, 'predict', argv)}")
    if bad:
        raise bad[-1]


def _check_model_names(*names: str | None) -> None:
    check = import_module("hffruits.models.names").check_model_name
    for name in filter(None, names):
        check(name)


_PREDICTING = ("top_k", "batch_size", "max_image_pixels", "allow_truncated_images")


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The flags among these that have a value; the others are as the function has them."""
    return {name: value for name, value in vars(args).items() if name in names}


def _predict_into_table(args: argparse.Namespace) -> None:
    labelled = load("hffruits.inference.batch_predict").label_into_table(
        args.model,
        args.images,
        args.output,
        precision=args.precision,
        **_given(args, *_PREDICTING),
    )
    if is_main_process():
        _print(labelled or "Complete  this process's part; the others continue")


def run_push(argv: list[str]) -> None:
    """Put a trained, taught or exported model on the Hub, with its card, in one commit."""
    args = parsers.push_parser(run_push.__doc__).parse_args(argv)
    pushed = load("hffruits.hub.push_model").push(**vars(args))
    _print_push(pushed)
    _print(f'Load      FruitClassifier.from_pretrained("{pushed.repo_id}")')
    _print_license(args.license or args.card)


def run_push_data(argv: list[str]) -> None:
    """Put photos on the Hub as a cleaned dataset: no broken files, leaks or duplicates."""
    data, options = parsers.parse_data(parsers.push_data_parser(run_push_data.__doc__), argv)
    push_data = load("hffruits.hub.push_dataset").push_data
    pushed, written = push_data(data, **options)
    _print(f"Photos    {', '.join(f'{split} {n:,}' for split, n in written['images'].items())}")
    _print_left_out(written["left_out"])
    if written["located"]:
        _print(f"Removed   the position from {counted(written['located'], 'photo')}")
    _print_push(pushed)
    _print(f"Train     hffruits train {pushed.repo_id}")
    _print_license(options["license"])


def run_space(argv: list[str]) -> None:
    """Put the demo of a Hub model online as a Space, tried before it is pushed."""
    args = parsers.space_parser(run_space.__doc__).parse_args(argv)
    made = load("hffruits.hub.space").make_space(**vars(args))
    if args.output_dir:
        _print(f"Saved     {args.output_dir}")
    if made.pushed:
        _print_push(made.pushed)
    if made.private_model:
        _print(f"Private   {args.model} is: the Space needs a secret HF_TOKEN that may read it")


def _print_license(given: object) -> None:
    if not given:
        _print("License   none: others may view it but not use it (set --license)")


def _print_push(pushed: Any) -> None:
    commit = f"commit {pushed.commit[:7]}"
    _print(f"Pushed    {pushed.repo_id} ({commit if pushed.changed else f'nothing new: {commit}'})")
    _print(f"Open      {pushed.url}")


def _print_left_out(left_out: dict[str, int]) -> None:
    for reason, count in left_out.items():
        _print(f"Left out  {count:,}: {reason}")


def run_demo(argv: list[str]) -> None:
    """Open a web page that classifies photos, one or many, and learns new fruits."""
    parser = parsers.demo_parser(run_demo.__doc__)
    args = parser.parse_args(argv)
    if args.model and args.named:
        parser.error(f"{args.model} and --model {args.named}: give one of them.")
    _check_model_names(args.named or args.model)
    port = import_module("hffruits.demo.port").choose_port(args.port)  # before gradio reads it
    app = load("hffruits.demo.app", of="PyTorch, transformers and Gradio")
    app.launch_demo(
        args.named or args.model,
        revision=args.revision,
        share=args.share,
        port=port,
        open_browser=args.open,
        auth=args.auth,
        data_dir=args.data_dir,
        feedback_dir=args.feedback_dir,
        save_dir=args.save_dir,
        **_given(args, "max_image_pixels"),
    )


def run_samples(argv: list[str]) -> None:
    """Copy the sample photos into a folder, to play with."""
    folder = parsers.samples_parser(run_samples.__doc__).parse_args(argv).folder
    samples = import_module("hffruits.data.samples")
    count = samples.copy_samples(folder)
    _print(f"Photos    {count} of {len(samples.sample_files())} kinds")
    _print(f"Origin    {samples.CITATION}")
    _print(f"License   {samples.LICENSE}, see {folder / 'LICENSE'}")
    _print(f"Saved     {folder}")
    given = [f"--data_dir={folder}"] if str(folder).startswith("-") else [str(folder)]
    _print(f"Train     {shlex.join(['hffruits', 'train', *given])}")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": run_train,
    "samples": run_samples,
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


def _command(argv: list[str]) -> str:
    """The command that is named first; prints the help where none is, and exits as git does: not
    with 0, for nothing was done."""
    parser = OneLineParser(
        prog="hffruits",
        description="Fruit photos in, a model you can trust out.",
        usage="hffruits COMMAND [--flag value ...]",
        epilog="commands:\n"
        + "\n".join(f"  {name:11}{run.__doc__}" for name, run in COMMANDS.items())
        + "\n\nSee `hffruits COMMAND --help`.",
    )
    parser.add_argument("--version", action="version", version=f"hffruits {hffruits.__version__}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    command = parser.parse_args(argv[:1]).command
    if command is None:
        parser.print_help()
        parser.exit(2)
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS)
        parser.error(f"{command}: unknown{hint}. See `hffruits --help`.")
    return command


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, or one of errors.py's; one line says why."""
    argv = sys.argv[1:] if argv is None else argv
    command = _command(argv)
    keep_freed_memory()
    if not (sys.stderr and sys.stderr.isatty()):  # ours become lines, others' would overwrite
        for name in ("HF_DATASETS", "HF_HUB"):
            os.environ.setdefault(f"{name}_DISABLE_PROGRESS_BARS", "1")
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter(command, argv[1:]))
    logging.basicConfig(handlers=[handler])
    if isinstance(sys.stdout, io.TextIOWrapper):  # else a name that it can't encode would raise
        sys.stdout.reconfigure(errors="backslashreplace")
    # of Pillow, of images that are over our own limit or allowed by it
    warnings.filterwarnings("ignore", r"Image size .* exceeds limit of .* pixels")
    logging.getLogger("huggingface_hub").propagate = False  # it prints by itself
    logging.getLogger("hffruits").setLevel(logging.INFO if is_main_process() else logging.ERROR)
    try:
        COMMANDS[command](argv[1:])
    except InputError as error:
        if is_main_process():
            _print_error(f"hffruits {command}: error: {_with_flags(error, command, argv[1:])}")
        return error.code
    except (PeersLostError, RunInterruptedError) as error:
        # the main process may be the one that is lost
        if isinstance(error, PeersLostError) or is_main_process():
            _print_error(f"hffruits: {_with_flags(error, command, argv[1:])}")
        return error.code
    except BrokenPipeError:  # `hffruits predict ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in _ANYWHERE:
            raise
        where = f"{shorten(error.filename)}: " if error.filename else ""
        notes = getattr(error, "__notes__", [])  # what is saved already, say
        _print_error(
            " ".join([f"hffruits {command}: error: {where}{_ANYWHERE[error.errno]}", *notes])
        )
        return 2
    except KeyboardInterrupt:
        journal = any(word.startswith("--output") for word in argv)
        hint = _RESUMES.get(command) if journal or command != "predict" else None
        print(f"\ninterrupted{hint or ''}", file=sys.stderr)
        return 130
    return 0


_ANYWHERE = {  # what the system may say wherever a file is named
    **dict.fromkeys(DISK_FULL, "the disk is full. Free some."),
    errno.ENAMETOOLONG: "the name is too long. Check the path.",
}
_RESUMES = {
    "train": "; if the run's folder has a checkpoint, the same command with "
    "--resume_from_checkpoint --output_dir RUN resumes",
    "search": "; the same command resumes",
    "predict": "; the same command resumes",
}


def _print(text: object) -> None:
    """On stdout. Names of files and classes can't steer the terminal."""
    lines = printable(text, keep="\n\t")
    print(wrap(lines, terminal_width(sys.stdout)), flush=True)


def _print_report(result: Any) -> None:
    if result.report:  # else it was warned of
        _print(f"Report    {result.report}")


def _output() -> Any:
    return import_module("hffruits.cli.output")


class _PlainFormatter(logging.Formatter):
    """Log lines that can't steer the terminal and fit into it; ours name a command's flags."""

    def __init__(self, command: str, argv: Collection[str] = ()):
        super().__init__("%(message)s")
        self.command, self.argv = command, argv

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        ours = record.name.partition(".")[0] == "hffruits"
        text = _with_flags(text, self.command, self.argv) if ours else text
        return wrap(printable(text, keep="\n\t"), terminal_width(sys.stderr))


def _with_flags(text: object, command: str, argv: Collection[str]) -> str:
    """A message with keywords spelled as the command's flags."""
    return spell_as_flags(str(text), parsers.flag_names(command), given=argv)


def _print_error(text: str) -> None:
    """On stderr, in a line of its own, where a progress bar may stand."""
    text = wrap(printable(text), terminal_width(sys.stderr))
    bars = sys.modules.get("tqdm")
    bars.tqdm.write(text, file=sys.stderr) if bars else print(text, file=sys.stderr)


def run() -> None:
    """What the installed `hffruits` command calls."""
    sys.exit(main())
