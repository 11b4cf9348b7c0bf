from hffruits.core.counts import counted


def test_one_is_counted_in_the_singular_and_everything_else_in_the_plural():
    assert [counted(number, "photo") for number in (0, 1, 2, 1776)] == [
        "0 photos",
        "1 photo",
        "2 photos",
        "1,776 photos",
    ]
    assert (counted(1, "class", "classes"), counted(3, "class", "classes")) == (
        "1 class",
        "3 classes",
    )


def test_a_fraction_has_no_more_digits_than_it_needs():
    assert [counted(number, "epoch") for number in (1.0, 0.5, 2.33333)] == [
        "1 epoch",
        "0.5 epochs",
        "2.333 epochs",
    ]
