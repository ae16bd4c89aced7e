"""SRS, or another activation, in the place of every ReLU of a net: one layer of its own for each call site.

A net may call one ReLU module at several places (torchvision's residual blocks do), or call the function without a module.
Putting another module where a ReLU module is would tie the parameters of all its places, or miss the function. So the net is
traced with torch.fx, and every call in the graph gets a module of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from stages.lib.errors import StageError

MODULES = (nn.ReLU, nn.ReLU6)
FUNCTIONS = (F.relu, F.relu6, F.relu_, torch.relu, torch.relu_)
METHODS = ("relu", "relu_")
PREFIX = "activation_"


@dataclass(frozen=True)
class Site:
    """A call of an activation: its number in order of execution, the name of the new module, the channels it acts on."""

    number: int
    name: str
    channels: int


class CallSites(fx.Tracer):
    """Follows calls into modules that the net holds without having registered them."""

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> object:
        """A node for a registered module, else what its forward pass does."""
        if m not in self.submodule_paths:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def is_site(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node of a graph is the call of a ReLU, as module, function or method."""
    if node.op == "call_module":
        return isinstance(modules[node.target], MODULES)
    return (node.op == "call_function" and node.target in FUNCTIONS) or (node.op == "call_method" and node.target in METHODS)


def replace(net: nn.Module, make: Callable[[Site], nn.Module], example: Tensor) -> tuple[fx.GraphModule, list[Site]]:
    """A net that shares all other modules and weights with `net`, and its call sites in order of execution.

    Args:
        net: Takes one tensor; left as it is.
        make: The new activation of a site.
        example: An input on the net's device, from which the channels of every site (dimension 1) follow.

    Raises:
        StageError: The net cannot be traced (its control flow depends on the data), or calls no ReLU.
    """
    try:
        graph = CallSites().trace(net)
    except (fx.proxy.TraceError, TypeError, NameError) as error:
        raise StageError(f"{type(net).__name__}: cannot be traced, its activations are not replaced: {error}") from error
    made = fx.GraphModule(net, graph)
    mode = net.training
    with torch.no_grad():
        ShapeProp(made.eval()).propagate(example)
    made.train(mode)
    modules, sites = dict(made.named_modules()), []
    for node in [node for node in graph.nodes if is_site(node, modules)]:
        site = Site(len(sites), f"{PREFIX}{len(sites)}", node.meta["tensor_meta"].shape[1])
        made.add_module(site.name, make(site))
        with graph.inserting_before(node):
            new = graph.call_module(site.name, (node.args[0],))
        node.replace_all_uses_with(new)
        graph.erase_node(node)
        sites.append(site)
    if not sites:
        raise StageError(f"{type(net).__name__}: calls no ReLU; there is nothing to replace")
    made.delete_all_unused_submodules()
    made.recompile()
    return made, sites
