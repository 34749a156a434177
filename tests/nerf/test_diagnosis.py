"""What failed is named, with a reason that fits it and an advice that fits most."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nndl_suite.nerf.diagnosis import MatchFacts, advice, doubts, listed, reasons

NAMES = tuple(f"{n}.jpg" for n in range(10))
PLENTY = dict.fromkeys(NAMES, 900)


def chain(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple(zip(names, names[1:], strict=False))


def test_every_failure_has_its_reason() -> None:
    features = {**PLENTY, "7.jpg": 0, "8.jpg": 12, "9.jpg": 700}
    facts = MatchFacts(features=features, pairs=(*chain(*NAMES[:5]), ("5.jpg", "6.jpg")))
    why = reasons(facts, placed=NAMES[:4], apart=())
    assert list(why) == ["4.jpg", "5.jpg", "6.jpg", "7.jpg", "8.jpg", "9.jpg"]
    assert why["4.jpg"].startswith("matched with one other photo, but")
    assert why["5.jpg"] == "fits only 6.jpg, not the rest"
    assert "blank" in why["7.jpg"]
    assert "12 features" in why["8.jpg"]
    assert "blurred" in why["8.jpg"]
    assert "too little overlap" in why["9.jpg"]
    assert "fits only" in reasons(facts, placed=NAMES[:3], apart=["3.jpg", "4.jpg"])["4.jpg"]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (MatchFacts(features=dict.fromkeys(NAMES, 3)), "plain, dark or blurred"),
        (MatchFacts(), "plain, dark or blurred"),
        (MatchFacts(features=PLENTY), "no two of them show the same thing"),
        (MatchFacts(features=PLENTY, pairs=chain(*NAMES), num_flat_pairs=9), "only turned on the spot"),
        (
            MatchFacts(features=PLENTY, pairs=(*chain(*NAMES[:6]), *chain(*NAMES[6:]))),
            r"of 6 and 4; the smaller: 6.jpg, 7.jpg, 8.jpg, 9.jpg\): take photos in between",
        ),
        (MatchFacts(features=PLENTY, pairs=chain(*NAMES[:3])), "most of them show nothing that another photo shows"),
        (MatchFacts(features=PLENTY, pairs=chain(*NAMES)), "something moved"),
    ],
)
def test_the_advice_fits_what_happened(facts: MatchFacts, told: str) -> None:
    sentence = advice(facts, reasons(facts, placed=(), apart=()))
    assert re.search(told, sentence)
    assert "\n" not in sentence


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=12))
def test_groups_are_what_pairs_connect(pairs: list[tuple[str, str]]) -> None:
    groups = MatchFacts(features=PLENTY, pairs=tuple(pairs)).groups
    assert sorted(name for group in groups for name in group) == sorted(NAMES)
    assert [len(group) for group in groups] == sorted((len(group) for group in groups), reverse=True)
    reach = {name: {name} for name in NAMES}  # by spreading until nothing changes
    for _ in NAMES:
        for first, second in pairs:
            both = reach[first] | reach[second]
            for name in both:
                reach[name] = both
    assert {frozenset(group) for group in groups} == {frozenset(names) for names in reach.values()}


def test_poses_of_a_camera_that_only_turned_are_doubted() -> None:
    (told,) = doubts(MatchFacts(features=PLENTY, pairs=chain(*NAMES), num_flat_pairs=9))
    assert told.startswith("9 of 9 pairs of photos show no depth")
    assert doubts(MatchFacts(features=PLENTY, pairs=chain(*NAMES), num_flat_pairs=7)) == []
    assert doubts(MatchFacts()) == []


def test_facts_survive_the_pipe() -> None:
    facts = MatchFacts(features=PLENTY, pairs=chain(*NAMES), num_flat_pairs=2)
    assert MatchFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_long_lists_are_cut() -> None:
    assert listed(NAMES[:5]) == "0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg"
    assert listed(NAMES) == "0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 5 more"
