"""What each library may do otherwise, and from which sentence it deviates in doing so."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.conformance import variants
from benchmarks.conformance.compare import Deviation, Run, about_the_origin, on_updates
from benchmarks.conformance.ours import STEPS, TAU, ours
from benchmarks.peers import BYZFL_NUMPY, BYZFL_TORCH, BYZPY, KRUM, LEGACY, MESSAGE

_KRUM = "where the score sums over the n - f - 2 closest (Blanchard et al., NIPS 2017, section 4)"
_WEISZFELD = "where the geometric median is the point of least summed distances"
_CAF = (
    "where each pass takes the top eigenpair, and the maximum over clients of any weight lets it "
    "end (Allouah et al., ICML 2025)"
)
_BULYAN = (
    "where Bulyan applies Krum again to what remains, n - 2f times, and averages the values closest"
    " to the median (El Mhamdi et al., ICML 2018, section 4)"
)


def _deviation(text: str, variant: Run) -> Deviation:
    return Deviation(text, on_updates(variant))


def _one_neighbour_more(m: variants.Count) -> Deviation:
    return _deviation(
        f"sums over the n - f - 1 closest others, {_KRUM}", variants.krum_of(m, more=1)
    )


def _rooted(m: variants.Count) -> Deviation:
    return _deviation(
        "takes roots of the squared distances and squares them again, whose rounding decides ties "
        "that the definition gives to the smallest index",
        variants.krum_of(m, rooted=True),
    )


def _steps(text: str, variant: Run) -> Deviation:
    return _deviation(f"{text}, {_WEISZFELD}", variant)


_MORE_KRUM = [_one_neighbour_more(variants.one)]
_MORE_MULTI_KRUM = [_one_neighbour_more(variants.all_but_f)]
_THREE_STEPS = [
    _steps(
        "takes three steps from zero, smoothed below 0.1",
        variants.weiszfeld(variants.origin, nu=0.1, steps=3),
    )
]
_CUT_BY_SHARE = [
    _deviation(
        "cuts int(share n) values, where f are cut on each side (Yin et al., ICML 2018, definition "
        "2, a share of n): f / n, rounded, cuts one too few at n = 49, f = 1",
        variants.trimmed_by_share,
    )
]

KNOWN: dict[tuple[str, str], Sequence[Deviation]] = {
    ("krum", BYZFL_NUMPY): _MORE_KRUM,
    ("krum", BYZFL_TORCH): _MORE_KRUM,
    ("krum", BYZPY): _MORE_KRUM,
    ("krum", LEGACY): [_rooted(variants.one)],
    ("krum", KRUM): [_rooted(variants.one)],
    ("multi-krum", BYZFL_NUMPY): _MORE_MULTI_KRUM,
    ("multi-krum", BYZFL_TORCH): _MORE_MULTI_KRUM,
    ("multi-krum", BYZPY): _MORE_MULTI_KRUM,
    ("median", BYZPY): [
        _deviation(
            "returns the lower of the two middle values, where the median of an even number is "
            "their mean (Yin et al., ICML 2018, definition 1)",
            variants.lower_median,
        )
    ],
    ("trimmed-mean, cut f / n", LEGACY): _CUT_BY_SHARE,
    ("trimmed-mean, cut f / n", MESSAGE): _CUT_BY_SHARE,
    ("meamed", BYZFL_NUMPY): [
        _deviation(
            "leaves it to a partial sort which of equally close values count, where ours takes the "
            "smaller (Xie et al., 2018, leaves it open)",
            variants.mean_around_median(variants.middle, variants.partition),
        )
    ],
    ("meamed", BYZFL_TORCH): [
        _deviation(
            "leaves it to torch's topk which of equally close values count, where ours takes the "
            "smaller (Xie et al., 2018, leaves it open)",
            variants.mean_around_median(variants.middle, variants.topk),
        )
    ],
    ("meamed", BYZPY): [
        _deviation(
            "averages around the lower of the two middle values, where the mean is around the "
            "median (Xie et al., 2018)",
            variants.mean_around_median(variants.lower, variants.torch_argsort),
        )
    ],
    ("geometric-median", BYZFL_NUMPY): _THREE_STEPS,
    ("geometric-median", BYZFL_TORCH): _THREE_STEPS,
    ("geometric-median", KRUM): [
        _steps(
            "smooths below 0.1 and stops at a step of 1e-6 or after 100",
            variants.weiszfeld(variants.mean, nu=0.1, steps=100, tolerance=1e-6),
        )
    ],
    ("geometric-median", BYZPY): [
        _steps(
            "starts at the lower median and stops at a step of 1e-6 or after 256",
            variants.weiszfeld(variants.lower, nu=1e-12, steps=256, tolerance=1e-6),
        )
    ],
    ("geometric-median", "geom-median"): [
        _steps(
            "smooths below 1e-6 and takes 100 steps at most",
            variants.weiszfeld(variants.mean, nu=1e-6, steps=100),
        )
    ],
    ("centered-clipping", BYZPY): [
        _deviation(
            "starts at the mean of the clients, which one of them can move anywhere, where v_0 is "
            "the server's (Karimireddy et al., ICML 2021)",
            variants.clipping_from_the_mean(TAU, STEPS),
        )
    ],
    ("caf", BYZFL_NUMPY): [
        _deviation(
            f"takes one power step from a drawn vector, and the maximum over all clients, {_CAF}",
            variants.caf_by_power(variants.numpy_normal, steps=1, rayleigh=False),
        )
    ],
    ("caf", BYZFL_TORCH): [
        _deviation(
            f"takes one power step from a drawn vector, and the maximum over all clients, {_CAF}",
            variants.caf_by_power(variants.torch_normal, steps=1, rayleigh=False),
        )
    ],
    ("caf", BYZPY): [
        _deviation(
            f"takes three power steps from one vector, and the maximum over all clients, {_CAF}",
            variants.caf_by_power(variants.normal_of_seed_0, steps=3, rayleigh=True),
        ),
    ],
    ("smea", BYZFL_NUMPY): [
        _deviation(
            "takes one power step from a drawn vector for each subset, where the largest eigenvalue"
            " is compared (Allouah et al., ICML 2023)",
            variants.smea_by_power(variants.numpy_normal),
        )
    ],
    ("smea", BYZFL_TORCH): [
        _deviation(
            "takes one power step from a drawn vector for each subset, where the largest eigenvalue"
            " is compared (Allouah et al., ICML 2023)",
            variants.smea_by_power(variants.torch_normal),
        )
    ],
    ("bulyan", MESSAGE): [
        _deviation(
            f"selects the n - 2f best of a single Krum ranking, {_BULYAN}",
            variants.bulyan_of_one_ranking,
        )
    ],
    ("bulyan", KRUM): [
        _deviation(
            "selects n - 2f - 2 Multi-Krum means of up to n - f, and trims f of them on each side, "
            f"{_BULYAN}",
            variants.bulyan_of_means(variants.all_but_f),
        )
    ],
    ("bulyan, m = 1", KRUM): [
        _deviation(
            f"selects n - 2f - 2, and trims f of them on each side, {_BULYAN}",
            variants.bulyan_of_means(variants.one),
        )
    ],
}
"""By the rule, or the rule and how it is called, and the library."""


def fed_models(rule: str) -> Deviation:
    """Return what a library does that is given models where it wants updates."""
    return Deviation(
        "measures lengths from the origin, where they are those of updates: what it gets must be "
        "updates",
        about_the_origin(ours(rule)),
    )
