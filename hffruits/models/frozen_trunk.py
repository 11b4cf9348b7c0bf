"""The frozen trunk of a backbone, found and skipped: the rest learns from cached activations.

The trunk's output for an image never changes in training. Nothing of the model is copied: the part
that learns is the model itself, given the output that the trunk would have.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from hffruits.core.errors import InputError
from hffruits.models.bn_folding import same_outputs


@dataclass(frozen=True)
class FrozenTrunk:
    """The frozen modules that an image passes first, by name; the output of the last is cached."""

    passed: tuple[str, ...]
    shapes: tuple[torch.Size, ...]  # of their outputs, for one image
    image_size: tuple[int, int]  # (high, wide) in pixels

    @property
    def shape(self) -> torch.Size:
        """Of one image's activations."""
        return self.shapes[-1]

    def activations(self, model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) -> the trunk's output (B, *shape)."""
        found: list[torch.Tensor] = []

        def stop(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            found.append(output)
            raise _Done

        hook = model.get_submodule(self.passed[-1]).register_forward_hook(stop)
        try:
            model(pixel_values=pixels)
        except _Done:
            pass
        finally:
            hook.remove()
        return found[0]

    @contextmanager
    def skipped(self, model: nn.Module, activations: torch.Tensor) -> Iterator[None]:
        """Within this block the trunk costs nothing and gives these activations.

        The model is to be called with one image of any kind.
        """
        modules = [model.get_submodule(name) for name in self.passed]
        try:
            for module, shape in zip(modules, self.shapes, strict=True):
                module.forward = _giving(activations.new_zeros((1, *shape)))
            modules[-1].forward = _giving(activations)
            yield
        finally:
            for module in modules:
                del module.forward


_UNCUT = "feature_cache_views: this backbone can't be split there. Leave it out."


class _Done(Exception):
    """The activations are there; the rest of the net needn't run."""


def _giving(value: torch.Tensor):
    return lambda *inputs, **options: value


def find_trunk(model: nn.Module, pixels: torch.Tensor) -> FrozenTrunk:
    """The frozen first part of a model, tried on pixels (B, 3, H, W).

    Raises `InputError` for a model whose first layers aren't frozen, and for one where the trunk's
    output isn't all that the rest needs.
    """
    order: list[tuple[str, torch.Tensor | None]] = []
    hooks = []
    for name, module in _outermost(model):
        frozen = not any(parameter.requires_grad for parameter in module.parameters())
        hooks.append(module.register_forward_hook(_note(order, name, frozen)))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            whole = model(pixel_values=pixels).logits
            for hook in hooks:
                hook.remove()
            passed = []
            for name, output in order:
                if output is None:
                    break
                passed.append((name, output.shape[1:]))
            if not passed or len(passed) == len(order):
                raise InputError("feature_cache_views: no first stages are frozen. Set freeze.")
            names, shapes = zip(*passed, strict=True)
            if len(set(names)) < len(names):  # a module that is passed twice
                raise InputError(_UNCUT)
            trunk = FrozenTrunk(names, shapes, tuple(pixels.shape[2:]))
            activations = trunk.activations(model, pixels)
            with trunk.skipped(model, activations):
                parts = model(pixel_values=torch.zeros_like(pixels[:1])).logits
    except RuntimeError as error:  # the pixels go past the trunk, as in a DenseNet
        raise InputError(_UNCUT) from error
    finally:
        model.train(was_training)
    if not same_outputs(whole, parts):
        raise InputError(_UNCUT)
    return trunk


def _outermost(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with parameters that are all frozen or all learn, none within another one.

    A frozen norm in a block that learns belongs to that block.
    """

    def walk(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        learns = {parameter.requires_grad for parameter in module.parameters()}
        inner = list(module.named_children())
        if len(learns) == 1 or (learns and not inner):
            yield name, module
        elif learns:
            for part, child in inner:
                yield from walk(f"{name}.{part}" if name else part, child)

    yield from walk("", model)


def _note(order: list, name: str, frozen: bool):
    def hook(module: nn.Module, inputs: tuple, output: object) -> None:
        whole = frozen and isinstance(output, torch.Tensor)
        order.append((name, output.detach() if whole else None))

    return hook
