"""The shipped engines: every backend within the tolerance of the manifest, and the same bits however work is cut up."""

from pathlib import Path

import numpy as np
import openvino
import pytest

from cmrsr.diffusion.ddim import ddim_coefficients
from cmrsr.runtime.bundle import Bundle, load, shipped
from cmrsr.runtime.choice import DeviceChoice
from cmrsr.runtime.engine import load_step
from cmrsr.runtime.open_vino import best_precision
from cmrsr.tasks.sr import COEFFICIENTS

FOLDERS = shipped()
pytestmark = pytest.mark.skipif(not FOLDERS, reason="no engine is shipped in this checkout")


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    folder: Path = request.param
    return load(str(folder), "sr")


def inputs(bundle: Bundle, batch: int) -> tuple[np.ndarray, ...]:
    stride = bundle.manifest.step.stride
    height, width = 8 * stride, 6 * stride
    rng = np.random.default_rng(0)
    step = ddim_coefficients(bundle.manifest.diffusion.build(), 3)[1]
    return (
        rng.standard_normal((batch, 1, height, width)).astype(np.float32),
        rng.random((batch, 1, height, width)).astype(np.float32),
        np.array([getattr(step, name) for name in COEFFICIENTS], np.float32),
        0.5 * np.eye(height, dtype=np.float32),
    )


def outputs(bundle: Bundle, choice: DeviceChoice, given: tuple[np.ndarray, ...]) -> np.ndarray:
    batch, _, height, width = given[0].shape
    step = load_step(bundle, (batch, height, width), choice)
    x_next = step(*given)[0]
    step.close()
    return x_next


def test_backends_agree_within_the_tolerance(bundle: Bundle) -> None:
    given = inputs(bundle, 2)
    reference = outputs(bundle, DeviceChoice(backend="onnxruntime", device="cpu"), given)
    limits = {"f32": bundle.manifest.step.tolerance}
    if best_precision(openvino.Core()) == "bf16":
        limits["bf16"] = bundle.manifest.step.tolerance_low_precision
    for precision, limit in limits.items():
        found = outputs(bundle, DeviceChoice(backend="openvino", precision=precision), given)  # type: ignore[arg-type]
        assert np.abs(found - reference).max() / np.abs(reference).max() < limit, precision


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_is_its_single_images_bit_for_bit(bundle: Bundle, threads: int) -> None:
    x_t, lr, coefficients, low_pass = inputs(bundle, 3)
    together = outputs(bundle, DeviceChoice(threads=2), (x_t, lr, coefficients, low_pass))
    step = load_step(bundle, (1, *x_t.shape[2:]), DeviceChoice(threads=threads))
    alone = [step(x_t[i : i + 1], lr[i : i + 1], coefficients, low_pass)[0] for i in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_the_card_lies_beside_the_engine(bundle: Bundle) -> None:
    assert (bundle.path / "CARD.md").is_file()
