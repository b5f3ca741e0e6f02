"""What an engine of ``cmrsr mie`` is: two encoders, a step on the latent that they condition, and its decoder."""

from cmrsr.runtime.kind import EngineKind, GraphKind

MANY = 8  # slices at a time: the default --batch-size


def _graph(inputs: tuple[str, ...], outputs: tuple[str, ...], *signed: str) -> GraphKind:
    """All graphs see windows of one size."""
    plans = ({"batch": MANY}, {"batch": (1, MANY, MANY)})
    return GraphKind(inputs=inputs, outputs=outputs, plans=plans, usual={"batch": MANY}, signed=signed)


ENGINE = EngineKind(
    task="mie",
    default="cpkdm-s",
    graphs={
        "step": _graph(
            ("x_t", "morphology", "motion", "coefficients"), ("x_next", "x0"), "x_t", "morphology", "motion"
        ),
        "kinematics": _graph(("cine", "motion"), ("features",), "motion"),
        "morphology": _graph(("inversions", "timing", "t1", "clusters"), ("features", "tissues")),
        "decoder": _graph(("latent", "morphology"), ("image", "probability"), "latent", "morphology"),
    },
    normalisation="cine and T1 images are divided by the 0.98 quantiles of their windows about the heart; T1 is in s",
    calls="kinematics and morphology first, step on their features, decoder on the last x_next.",
    result=lambda diffusion: "The last x_next is the latent that decoder takes.",
)
