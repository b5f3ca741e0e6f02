from types import SimpleNamespace

import numpy as np
import pytest

from cmrsr.diffusion.residual import Residual
from cmrsr.errors import UsageError
from cmrsr.tasks.interp4d.training import system as interp4d_system
from cmrsr.tasks.interp4d.training.data import Stack, Stacks
from cmrsr.tasks.interp4d.training.system import ClipSystem, VolumeSystem
from cmrsr.tasks.mie.training.system import MieSystem
from cmrsr.tasks.registry import build_system, load_recipe
from cmrsr.tasks.sr.training.data import Images, Pool
from cmrsr.tasks.sr.training.system import SrSystem
from cmrsr.training.crops import check_crop, smallest_side
from tests.cine import beating_frames
from tests.ring_infarcts import ring_infarcts

FRAMES = beating_frames(6, 2, 24, 24)
IMAGES = Images(
    training=[Pool(images=[*FRAMES[:4, 0]])], validation=[Pool(images=[*FRAMES[4:, 0]])], description="frames"
)
STACKS = Stacks(training=[Stack(shown=FRAMES)], validation=[Stack(shown=FRAMES)], description="a beat")


def test_a_recipe_names_its_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(build_system(load_recipe("perfgen-s", ["data.crop=16"]), IMAGES), SrSystem)
    clips = ("data.crop=16", "data.gap=[2, 2]")
    assert isinstance(build_system(load_recipe("tssc-s", [*clips, "model.depth=1"]), STACKS), ClipSystem)
    first = SimpleNamespace(config=SimpleNamespace(stride=8))
    monkeypatch.setattr(interp4d_system, "load_stage_one", lambda folder: (first, Residual(0.1, 1.0)))
    volumes = load_recipe("tssc-s-volume", [*clips, "data.n_slices=2"])
    assert isinstance(build_system(volumes, STACKS), VolumeSystem)
    assert isinstance(build_system(load_recipe("cpkdm-s", ["data.crop=32"]), ring_infarcts(2, 1)), MieSystem)


def test_what_does_not_go_together_is_refused() -> None:
    for name, data, message in (
        ("perfgen-s", STACKS, "sr cannot be trained on stacks"),
        ("tssc-s", IMAGES, "interp4d cannot be trained on images"),
        ("tssc-s-volume", IMAGES, "interp4d-volume cannot be trained on images"),
        ("cpkdm-s", STACKS, "mie cannot be trained on stacks"),
        ("perfgen-s", ring_infarcts(2, 1), "sr cannot be trained on infarcts"),
    ):
        with pytest.raises(UsageError, match=message):
            build_system(load_recipe(name), data)


def test_crops_fit_the_model_and_the_smallest_image() -> None:
    images = [np.zeros((3, 40, 24)), np.zeros((32, 32))]
    check_crop(24, 8, smallest_side(images))
    for crop, stride in ((20, 8), (32, 8)):
        with pytest.raises(UsageError, match=rf"data\.crop {crop}: .* stride 8, and at most the 24 pixels"):
            check_crop(crop, stride, smallest_side(images))
