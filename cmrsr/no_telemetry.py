"""Switches off what packages that cmrsr runs on would send about their use. Imported by the package before all else.

OpenVINO reports its import through ``openvino_telemetry``, which looks up an analytics host and writes two files below
the home folder. Where that package is missing, OpenVINO takes a stub of its own, and None in ``sys.modules`` is the
import system's word for missing: whatever is installed, and whatever the user's consent file says. ONNX Runtime (1.32
and later on Linux) has an uploader in its library; it obeys an environment variable, read when the library is loaded.
Both reach every process that imports any part of cmrsr.
"""

import os
import sys
from types import ModuleType
from typing import cast

sys.modules["openvino_telemetry"] = cast(ModuleType, None)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
