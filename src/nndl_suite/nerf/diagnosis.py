"""Why photos got no camera, and what a person can do about it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

_FEW_FEATURES = 60  # a photo with fewer cannot share the 15 that a pair needs with many others
_FLAT_SHARE = 0.95  # of the pairs, from which the photos show no depth; an object before a wall comes to 0.75
_SECOND_GROUP = 0.2  # of the photos, from which a group apart is worth telling
_NAMES_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchFacts:
    """What the photos had to go by."""

    features: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of every photo, by name."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Photos that show the same points: their matches agree with one motion of the camera."""
    num_flat_pairs: int = 0
    """Those of the pairs that a plane explains, or a camera that only turned."""

    @property
    def groups(self) -> list[list[str]]:
        """Photos that pairs hold together, the largest group first; photos without a pair are groups of one."""
        parent = {name: name for name in self.features}

        def root(name: str) -> str:
            while parent[name] != name:
                parent[name] = parent[parent[name]]
                name = parent[name]
            return name

        for first, second in self.pairs:
            parent[root(first)] = root(second)
        members: dict[str, list[str]] = {}
        for name in self.features:
            members.setdefault(root(name), []).append(name)
        return sorted(members.values(), key=len, reverse=True)

    @property
    def largest(self) -> int:
        """Photos in the largest group: no mapper places more together."""
        return len(self.groups[0]) if self.features else 0

    def to_json(self) -> dict[str, Any]:
        """For the way through the pipe."""
        return {"features": dict(self.features), "pairs": self.pairs, "num_flat_pairs": self.num_flat_pairs}

    @classmethod
    def from_json(cls, sent: Mapping[str, Any]) -> "MatchFacts":
        """What `to_json` sent."""
        return cls(
            features=dict(sent["features"]),
            pairs=tuple((first, second) for first, second in sent["pairs"]),
            num_flat_pairs=sent["num_flat_pairs"],
        )


def reasons(facts: MatchFacts, placed: Collection[str], apart: Collection[str]) -> dict[str, str]:
    """Why each photo that got no camera got none.

    Args:
        facts: Of all the photos.
        placed: Those that have a camera.
        apart: Those that were placed with one another, but not with these.
    """
    there, elsewhere = set(placed), set(apart)
    partners = Counter(name for pair in facts.pairs for name in pair)
    group_of = {name: group for group in facts.groups for name in group}
    told: dict[str, str] = {}
    for name, features in facts.features.items():
        if name in there:
            continue
        if features == 0:
            told[name] = "nothing to recognise in it: blank, or out of focus"
        elif not partners[name] and features < _FEW_FEATURES:
            told[name] = f"hardly anything to recognise in it ({features} features): blurred, dark or plain"
        elif not partners[name]:
            told[name] = f"shows nothing that another photo shows ({features} features, no match): too little overlap"
        elif name in elsewhere or (there and not there & set(group_of[name])):
            others = [other for other in group_of[name] if other != name and other not in there]
            told[name] = f"fits only {listed(others)}, not the rest" if others else "fits only photos apart"
        else:
            others = "one other photo" if partners[name] == 1 else f"{partners[name]} photos"
            told[name] = f"matched with {others}, but where it was taken from is uncertain or contradicts theirs"
    return told


def advice(facts: MatchFacts, why: Mapping[str, str]) -> str:
    """The likeliest reason why too few photos were placed, and what to do, in one sentence.

    Args:
        facts: Of all the photos.
        why: From `reasons`.
    """
    counts = list(facts.features.values())
    if not counts or median(counts) < _FEW_FEATURES:
        return (
            f"there is hardly anything to recognise in them (half of them have {int(median(counts or [0]))} features "
            "or fewer): they are plain, dark or blurred; leave patterned surroundings in view, take more light and "
            "hold the camera still"
        )
    if not facts.pairs:
        return (
            "no two of them show the same thing: every part of the object must be in three photos or more; walk round "
            "it in small steps"
        )
    groups = facts.groups
    second = groups[1] if len(groups) > 1 else []
    if len(second) >= max(2, _SECOND_GROUP * len(counts)):
        return (
            f"they fall into groups that nothing connects (of {len(groups[0])} and {len(second)}; the smaller: "
            f"{listed(second)}): take photos in between, or leave out one group if the object was moved"
        )
    alone = sum("overlap" in reason for reason in why.values())
    if alone >= 0.5 * len(why):
        return (
            "most of them show nothing that another photo shows: every part of the object must be in three photos or "
            "more; walk round it in small steps"
        )
    if facts.num_flat_pairs >= _FLAT_SHARE * len(facts.pairs):
        return (
            "they show no depth: the camera only turned on the spot, or looked at one flat surface; move it sideways "
            "round the object, and do not zoom"
        )
    return (
        "their matches contradict one another: something moved between the photos, or it shines, or looks the same "
        "from several sides; keep the object and its surroundings still and leave patterned things in view"
    )


def doubts(facts: MatchFacts) -> list[str]:
    """What makes poses doubtful although they were found, a sentence each."""
    if facts.pairs and facts.num_flat_pairs >= _FLAT_SHARE * len(facts.pairs):
        return [
            f"{facts.num_flat_pairs} of {len(facts.pairs)} pairs of photos show no depth: if the camera only turned on "
            "the spot, or looked at one flat surface, these poses mean nothing"
        ]
    return []


def listed(names: Sequence[str]) -> str:
    """Names for a message, not more than a person reads."""
    more = len(names) - _NAMES_TOLD
    return ", ".join(names[:_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")
