"""One ONNX graph with the preprocessing inside, from a decoded image to scores: for browsers."""

import json

import numpy as np
import onnx
import torch
from onnx import compose, helper, numpy_helper, parser
from torchvision.transforms.functional import InterpolationMode

from hffruits.core.errors import InputError
from hffruits.data.transforms import Preprocessing
from hffruits.exporters.onnx import OPSET
from hffruits.inference.ood import explain_by


def with_preprocessing(
    graph: onnx.ModelProto,
    steps: Preprocessing,
    *,
    labels: list[str],
    prototypes: torch.Tensor | None,
    ood_threshold: float,
) -> onnx.ModelProto:
    """One graph from a decoded image to its prediction, with the labels in its metadata.

    `image` uint8 (height, width, 3 or 4), as a canvas has it, of any size -> `scores` (K,), and
    `known`, whether it is like anything learned. ONNX Runtime resizes as Pillow does.
    """
    if steps.interpolation not in _MODES:
        raise InputError(f"{steps.interpolation.value} resizing can't be put into a graph.")
    text = _PREPARE if steps.resize_shorter else _PREPARE_SQUEEZED
    first = parser.parse_model(text.replace("MODE", _MODES[steps.interpolation]))
    crop, resized = np.array(steps.crop or steps.resize), np.array(steps.resize)
    constants = {
        "resized": np.int64(resized if len(steps.resize) == 2 else resized[:1]),
        "crop": np.int64(crop),
        "scale": np.float32(1 / (255 * np.array(steps.std))).reshape(1, 3, 1, 1),
        "shift": np.float32(-np.array(steps.mean) / np.array(steps.std)).reshape(1, 3, 1, 1),
    }
    _add_constants(first, constants)
    last = parser.parse_model(_PREDICT)
    if prototypes is None:
        prototypes, ood_threshold = torch.zeros(1, _width_of(graph, "features")), 1.0
    constants = {
        "explained": explain_by(prototypes).T,
        "most": np.float32(min(ood_threshold, 1.0)),  # no score lies above
    }
    _add_constants(last, constants)
    for part in (first, last):
        part.ir_version = graph.ir_version
        compose.add_prefix(part, "hffruits_", inplace=True)  # no name may be the net's own, too
    whole = compose.merge_models(first, graph, io_map=[("hffruits_pixels", "pixels")])
    pairs = [(name, f"hffruits_{name}") for name in ("logits", "features")]
    whole = compose.merge_models(whole, last, io_map=pairs)
    _rename(whole, {f"hffruits_{name}": name for name in ("image", "scores", "known")})
    helper.set_model_props(whole, {"labels": json.dumps(labels)})
    onnx.checker.check_model(whole)
    return whole


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give the graph's inputs and outputs other names."""
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _add_constants(model: onnx.ModelProto, values: dict[str, np.ndarray]) -> None:
    used = {name for node in model.graph.node for name in node.input}
    for name, value in values.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _width_of(graph: onnx.ModelProto, output: str) -> int:
    (found,) = [value for value in graph.graph.output if value.name == output]
    return found.type.tensor_type.shape.dim[1].dim_value


_MODES = {InterpolationMode.BICUBIC: "cubic", InterpolationMode.BILINEAR: "linear"}
_HEADER = f'<ir_version: 10, opset_import: ["" : {OPSET}]>'
# a fourth channel is its opacity; without one it is opaque
_FOUR_CHANNELS = """
    opaque = Pad (image, beside, full_byte)
    rgba = Slice (opaque, zero, four, last)
    chw = Transpose <perm = [2, 0, 1]> (rgba)
    nchw = Unsqueeze (chw, zero)
"""
# cut-out product photos stand on white, as for the other engines
_ON_WHITE = """
    numbers = Cast <to = 1> (middle)
    colour = Slice (numbers, zero, three, one)
    opacity = Slice (numbers, three, four, one)
    seen = Mul (colour, opacity)
    through = Sub (full, opacity)
    behind = Mul (through, full)
    sum = Add (seen, behind)
    blended = Div (sum, full)
    scaled = Mul (blended, scale)
    pixels = Add (scaled, shift)
"""
_CONSTANTS = """int64[1] zero = {0}, int64[1] one = {1}, int64[1] last = {2}, int64[1] three = {3},
 int64[1] four = {4}, int64[2] one_four = {1, 4}, int64[6] beside = {0, 0, 0, 0, 0, 1},
 uint8 full_byte = {255}, float full = {255.0}"""
# the shorter side becomes `resized`, the longer one in proportion; then the middle is cut out
_PREPARE = f"""{_HEADER}
prepare (uint8[height, width, channels] image) => (float[1, 3, high, wide] pixels)
<int64[2] two_three = {{2, 3}}, float half = {{0.5}}, {_CONSTANTS}> {{
    {_FOUR_CHANNELS}
    shape = Shape <start = 0, end = 2> (image)
    shorter = ReduceMin <keepdims = 1> (shape)
    times = Mul (shape, resized)
    within = Div (times, shorter)
    sizes = Concat <axis = 0> (one_four, within)
    small = Resize <mode = "MODE", cubic_coeff_a = -0.5, antialias = 1> (nchw, , , sizes)
    beyond = Sub (within, crop)
    beyond_float = Cast <to = 1> (beyond)
    halved = Mul (beyond_float, half)
    rounded = Round (halved)
    start = Cast <to = 7> (rounded)
    end = Add (start, crop)
    middle = Slice (small, start, end, two_three)
    {_ON_WHITE}
}}"""
_PREPARE_SQUEEZED = f"""{_HEADER}
prepare (uint8[height, width, channels] image) => (float[1, 3, high, wide] pixels)
<{_CONSTANTS}> {{
    {_FOUR_CHANNELS}
    sizes = Concat <axis = 0> (one_four, resized)
    middle = Resize <mode = "MODE", cubic_coeff_a = -0.5, antialias = 1> (nchw, , , sizes)
    {_ON_WHITE}
}}"""
_PREDICT = (
    _HEADER
    + """
predict (float[batch, classes] logits, float[batch, wide] features)
    => (float[classes] scores, bool known)
<int64[1] rows = {0}, int64[1] columns = {1}, float whole = {1.0}> {
    probabilities = Softmax <axis = 1> (logits)
    scores = Squeeze (probabilities, rows)
    length = ReduceL2 <keepdims = 1> (features, columns)
    unit = Div (features, length)
    shares = MatMul (unit, explained)
    explained_share = ReduceSumSquare <keepdims = 0> (shares)
    ood_score = Sub (whole, explained_share)
    known = LessOrEqual (ood_score, most)
}"""
)
