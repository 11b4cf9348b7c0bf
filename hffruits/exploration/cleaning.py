"""A data set without what is better left out, split without leaks; originals stay untouched."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hffruits.data.arguments import DataArguments
from hffruits.data.sources import open_source
from hffruits.data.splits import choose_splits
from hffruits.data.validation import Part, check_images, join_parts
from hffruits.exploration.repair import choose_repairs, paths_of, without


@dataclass(frozen=True)
class Cleaned:
    """What is left of a data set."""

    parts: dict[str, Part]
    left_out: dict[str, str]  # path -> reason
    coarse: dict[str, str]  # class -> coarse label
    own_splits: frozenset[str]  # those that were not made here

    def repaired(self) -> "Cleaned":
        """Less what `choose_repairs` says."""
        repairs = choose_repairs(self.parts)
        left_out = self.left_out | paths_of(self.parts, repairs)
        return replace(self, parts=without(self.parts, repairs), left_out=left_out)


def clean(data_args: DataArguments, *, anew: bool = False, seed: int = 42) -> Cleaned:
    """Repaired and split, with near-duplicates (or `group_by`) on one side.

    `anew` forgets the data's own splits. Raises `InputError` for data that can't be used.
    """
    usable = load_usable(data_args, anew=anew).repaired()
    divided = replace(usable, parts=split_parts(usable.parts, data_args, seed))
    return divided.repaired()  # a split by `group_by` may have parted near-duplicates


def load_usable(data_args: DataArguments, *, anew: bool = False) -> Cleaned:
    """The pictures that can be read, by the data's own splits, or all in one with `anew`."""
    data_args = replace(data_args, streaming=False, max_unreadable_fraction=1.0)
    raw = open_source(data_args)
    checked = check_images(raw, data_args)
    checked.check_classes()
    parts = checked.parts
    if anew:
        parts = {"train": join_parts(list(parts.values()))}
    bad = [skipped for skipped in checked.skipped if skipped.photo]
    left_out = {skipped.path.as_posix(): f"can't be used: {skipped.reason}" for skipped in bad}
    own_splits = frozenset() if anew else frozenset(parts)
    return Cleaned(parts, left_out, raw.coarse, own_splits)


def split_parts(parts: Mapping[str, Part], data_args: DataArguments, seed: int) -> dict[str, Part]:
    """With the splits that the data lacks made."""
    return choose_splits(dict(parts), replace(data_args, split_lists=None), seed=seed)
