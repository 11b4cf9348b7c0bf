"""Invariants of every split, for any labels and groups."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from hffruits.core.errors import InputError
from hffruits.data.splits import GroupSplit, fold_by_groups, split_by_groups

HELD_OUT = {"validation": 0.15, "test": 0.15}
SPLITS = ("train", "validation", "test")

few_examples = settings(max_examples=60, deadline=None)
fractions = st.fixed_dictionaries({}, optional={"validation": st.floats(0.05, 0.4)}).flatmap(
    lambda some: st.just(some | {"test": 0.15} if some else {"validation": 0.2})
)


@st.composite
def labels_and_groups(draw, *, shared: bool = False, least: int = 1):
    """Up to five classes of `least` to 12 groups of 1 to 6 images, in any order.

    `shared`: some groups have images of two classes.
    """
    rows = []
    for label in "ABCDE"[: draw(st.integers(1, 5))]:
        sizes = draw(st.lists(st.integers(1, 6), min_size=least, max_size=12))
        if sum(sizes) < 3:
            sizes[0] += 2  # fewer images than splits are an error
        rows += [(label, f"{label}{i}") for i, size in enumerate(sizes) for _ in range(size)]
    if shared:
        names = sorted({group for _, group in rows})
        pairs = draw(st.lists(st.tuples(*[st.sampled_from(names)] * 2), max_size=8))
        same = dict(pairs)
        rows = [(label, same.get(group, group)) for label, group in rows]
    rows = draw(st.permutations(rows))
    numbers = {group: number for number, group in enumerate({group for _, group in rows})}
    return [label for label, _ in rows], [numbers[group] for _, group in rows]


def home_of(split: GroupSplit) -> dict[int, str]:
    return {index: name for name, part in split.parts.items() for index in part}


def paths(split: GroupSplit, names: list) -> dict[str, list]:
    return {part: [names[index] for index in rows] for part, rows in split.parts.items()}


# ---- split_by_groups ----


@few_examples
@given(labels_and_groups(shared=True), fractions, st.integers(0, 9))
def test_every_image_is_in_one_split_and_no_group_in_two(data, fractions, seed):
    labels, groups = data
    split = split_by_groups(labels, groups, fractions, seed=seed)
    assert list(split.parts) == ["train", *fractions]
    every = [index for part in split.parts.values() for index in part]
    assert sorted(every) == list(range(len(labels)))
    assert all(part == sorted(part) for part in split.parts.values())
    home, places = home_of(split), defaultdict(set)
    for index, (label, group) in enumerate(zip(labels, groups, strict=True)):
        if label not in split.cut:
            places[group].add(home[index])
    assert all(len(splits) == 1 for splits in places.values())


@few_examples
@given(labels_and_groups(shared=True), fractions, st.integers(0, 9))
def test_each_class_is_in_each_split(data, fractions, seed):
    labels, groups = data
    split = split_by_groups(labels, groups, fractions, seed=seed)
    for part in split.parts.values():
        assert {labels[index] for index in part} == set(labels)


@few_examples
@given(labels_and_groups(), fractions, st.integers(0, 9))
def test_a_class_is_split_within_a_group_only_where_its_groups_are_too_few_or_too_large(
    data, fractions, seed
):
    labels, groups = data
    split = split_by_groups(labels, groups, fractions, seed=seed)
    sizes = Counter(zip(labels, groups, strict=True))
    for label in set(labels):
        own = [size for (name, _), size in sizes.items() if name == label]
        wanted = [max(1, round(share * sum(own))) for share in fractions.values()]
        held_out = sum(labels[index] == label for part in fractions for index in split.parts[part])
        assert held_out <= 2 * sum(wanted) or sum(own) <= 2 * sum(wanted)
        if label in split.cut:
            assert len(own) <= len(fractions) or max(own) > min(wanted)
        else:
            assert len(own) > len(fractions)


@few_examples
@given(labels_and_groups(least=3), st.integers(0, 9))
def test_sizes_are_as_near_the_fractions_as_whole_groups_allow(data, seed):
    labels, groups = data
    split = split_by_groups(labels, groups, HELD_OUT, seed=seed)
    sizes = Counter(zip(labels, groups, strict=True))
    for label in set(labels) - set(split.cut):
        own = [size for (name, _), size in sizes.items() if name == label]
        in_train = {groups[i] for i in split.parts["train"] if labels[i] == label}
        for part, fraction in HELD_OUT.items():
            wanted = max(1, round(fraction * sum(own)))
            have = sum(labels[index] == label for index in split.parts[part])
            assert have <= max(wanted, max(own))
            # one more group would be too many, or it is wanted elsewhere
            smallest = min(sizes[label, group] for group in in_train)
            assert have + smallest > wanted or len(in_train) == 1


@few_examples
@given(labels_and_groups(shared=True), st.integers(0, 9))
def test_the_same_seed_gives_the_same_split_whatever_the_groups_are_called(data, seed):
    labels, groups = data
    renamed = [1000 - 3 * group for group in groups]
    one = split_by_groups(labels, groups, HELD_OUT, seed=seed)
    assert one == split_by_groups(labels, renamed, HELD_OUT, seed=seed)


@few_examples
@given(labels_and_groups(), labels_and_groups(), st.integers(0, 9))
def test_one_class_does_not_change_the_split_of_another(data, others, seed):
    labels, groups = data
    names = [f"{label}/{index}" for index, label in enumerate(labels)]
    single = split_by_groups(labels, groups, HELD_OUT, seed=seed)
    more = split_by_groups(
        [f"other-{label}" for label in others[0]] + labels,
        [-1 - group for group in others[1]] + groups,
        HELD_OUT,
        seed=seed,
    )
    with_others = paths(more, [None] * len(others[0]) + names)
    assert paths(single, names) == {
        part: [name for name in rows if name] for part, rows in with_others.items()
    }


@pytest.mark.parametrize("count", [10, 20, 40, 100])
def test_with_single_images_it_is_plain_stratified_splitting(count):
    """As many of each class as scikit-learn takes."""
    labels = [label for label in "ABC" for _ in range(count)]
    split = split_by_groups(labels, range(len(labels)), {"test": 0.2}, seed=0)
    train, test = train_test_split(labels, test_size=0.2, stratify=labels, random_state=0)
    assert Counter(labels[index] for index in split.parts["test"]) == Counter(test)
    assert Counter(labels[index] for index in split.parts["train"]) == Counter(train)
    assert split.cut == ()


def test_large_groups_stay_whole_where_the_user_knows_them():
    labels, groups = ["A"] * 30, [index // 10 for index in range(30)]
    assert split_by_groups(labels, groups, HELD_OUT, seed=0).cut == ("A",)
    whole = split_by_groups(labels, groups, HELD_OUT, seed=0, cut_large=False)
    assert whole.cut == () and {len(rows) for rows in whole.parts.values()} == {10}


def test_other_seeds_give_other_splits():
    labels = ["A"] * 30 + ["B"] * 30
    splits = [split_by_groups(labels, range(60), HELD_OUT, seed=seed) for seed in range(5)]
    assert len({tuple(split.parts["test"]) for split in splits}) == 5


def test_a_group_larger_than_the_share_is_held_out_where_there_is_no_smaller_one():
    labels, groups = ["A"] * 40, [index // 10 for index in range(40)]
    split = split_by_groups(labels, groups, HELD_OUT, seed=0)
    assert {name: len(rows) for name, rows in split.parts.items()} == {
        "train": 20, "validation": 10, "test": 10,
    }  # fmt: skip
    assert split.cut == ()


def test_a_class_that_would_lose_more_than_twice_the_share_is_split_within_a_group():
    split = split_by_groups(["A"] * 30, [index // 10 for index in range(30)], HELD_OUT, seed=0)
    assert {name: len(rows) for name, rows in split.parts.items()} == {
        "train": 22, "validation": 4, "test": 4,
    }  # fmt: skip
    assert split.cut == ("A",)


@pytest.mark.parametrize("count", [3, 4, 7, 100])
def test_a_class_of_one_group_is_split_in_order(count):
    split = split_by_groups(["A"] * count, [0] * count, HELD_OUT, seed=0)
    assert split.cut == ("A",)
    held_out = max(1, round(0.15 * count))
    order = [*split.parts["train"], *split.parts["test"], *split.parts["validation"]]
    assert order == list(range(count))
    assert len(split.parts["validation"]) == len(split.parts["test"]) == held_out


def test_a_group_of_two_classes_stays_in_one_split_and_counts_for_both():
    labels, groups = list("AAAAABBBBB"), [0, 1, 2, 3, 4, 0, 1, 2, 8, 9]
    for seed in range(20):
        split = split_by_groups(labels, groups, HELD_OUT, seed=seed)
        home = home_of(split)
        assert all(home[index] == home[index + 5] for index in range(3))
        assert split.cut == ()
        assert all(len(split.parts[part]) <= 3 for part in HELD_OUT)  # 1 of each class, or shared


def test_shops_that_sell_every_fruit_stay_whole():
    rng = np.random.default_rng(0)
    labels = [f"fruit {number}" for number in range(20) for _ in range(60)]
    shops = rng.integers(0, 20, len(labels)).tolist()
    for seed in range(5):
        split = split_by_groups(labels, shops, HELD_OUT, seed=seed)
        sold_in = {part: {shops[index] for index in rows} for part, rows in split.parts.items()}
        assert sum(map(len, sold_in.values())) == 20
        assert len(split.parts["train"]) > 0.55 * len(labels)
        assert split.cut == ()


def test_a_class_that_is_split_within_a_group_does_not_move_the_others():
    """A fruit that one shop sells is cut; the shop's other fruits stay together."""
    labels = [f"fruit {number}" for number in range(5) for _ in range(30)]
    shops = [index % 10 for index in range(len(labels))]
    single = split_by_groups(labels, shops, HELD_OUT, seed=0)
    more = split_by_groups([*labels, *["rare"] * 6], [*shops, *[3] * 6], HELD_OUT, seed=0)
    assert more.cut == ("rare",)
    for part, rows in single.parts.items():
        assert [index for index in more.parts[part] if index < len(labels)] == rows


@pytest.mark.parametrize(
    "wrong",
    [{"test": 0}, {"test": 1}, {"test": -0.1}, {"test": float("nan")},
     {"validation": 0.5, "test": 0.5}, {"validation": 0.3, "test": 0.7}],
)  # fmt: skip
def test_impossible_fractions_are_explained(wrong):
    with pytest.raises(InputError, match=r"_fraction=.*Try 0\.15"):
        split_by_groups(["A"] * 10, range(10), wrong, seed=0)


def test_all_classes_of_too_few_images_are_named_with_their_counts():
    with pytest.raises(
        InputError, match=r"than the 3 that .* needs: C \(1\), B \(2\)\. Add .*rare_c"
    ):
        split_by_groups(["A"] * 10 + ["B"] * 2 + ["C"], range(13), HELD_OUT, seed=0)


def test_a_class_of_too_few_groups_is_left_to_train_as_a_whole():
    labels, groups = ["A"] * 10 + ["B"] * 5 + ["C"] * 2, [*range(10), *[10] * 5, 11, 0]
    split = split_by_groups(labels, groups, HELD_OUT, seed=0, train_only=True)
    assert split.train_only == ("B", "C") and not split.cut
    assert set(range(10, 17)) <= set(split.parts["train"]) and 0 in split.parts["train"]
    assert split_by_groups(labels[:15], groups[:15], HELD_OUT, seed=0).cut == ("B",)


def test_train_only_classes_alone_are_refused():
    with pytest.raises(InputError, match="no class has photos enough to hold any out"):
        split_by_groups(["A", "B"], [0, 1], HELD_OUT, seed=0, train_only=True)


# ---- fold_by_groups ----


@few_examples
@given(labels_and_groups(least=4), st.integers(2, 4), st.integers(0, 9))
def test_folds_hold_each_image_once_each_class_and_no_group_twice(data, folds, seed):
    labels, groups = data
    made = fold_by_groups(labels, groups, folds, seed=seed)
    assert len(made) == folds
    assert sorted(index for fold in made for index in fold) == list(range(len(labels)))
    homes = defaultdict(set)
    for number, fold in enumerate(made):
        assert {labels[index] for index in fold} == set(labels)
        for index in fold:
            homes[groups[index]].add(number)
    assert all(len(numbers) == 1 for numbers in homes.values())
    assert made == fold_by_groups(labels, groups, folds, seed=seed)


@few_examples
@given(labels_and_groups(shared=True, least=4), st.integers(2, 3), st.integers(0, 9))
def test_groups_of_two_classes_stay_whole_in_folds_too(data, folds, seed):
    labels, groups = data
    counts = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    assume(min(counts.values()) >= folds)
    made = fold_by_groups(labels, groups, folds, seed=seed)
    assert sorted(index for fold in made for index in fold) == list(range(len(labels)))
    assert sum(len({groups[index] for index in fold}) for fold in made) == len(set(groups))


def test_folds_of_single_images_are_as_even_as_scikit_learns():
    labels = np.repeat(list("ABC"), [50, 31, 12])
    made = fold_by_groups(labels.tolist(), list(range(93)), 5, seed=0)
    for label, size in zip("ABC", [50, 31, 12], strict=True):
        counts = [sum(labels[index] == label for index in fold) for fold in made]
        assert min(counts) >= size // 5 - 1
        assert max(counts) <= -(-size // 5) + 1
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    assert made == [test.tolist() for _, test in splitter.split(labels, labels, range(93))]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (1, "folds=1: give 2 or more"),
        (-3, "folds=-3: give 2"),
        (4, r"groups .* folds=4: B \(3\)\."),
    ],
)
def test_folds_that_cannot_be_made_are_explained(folds, message):
    with pytest.raises(InputError, match=message):
        fold_by_groups(
            list("AAAAABBBBCCCC"), [0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11], folds, seed=0
        )
