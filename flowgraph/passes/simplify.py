"""simplify: rewrite a few forms into cheaper ones. A rule is a function of a node whose operands are simple already."""

from __future__ import annotations

from collections.abc import Callable

from flowgraph.graph import Graph, Node, make_node, operand_types
from flowgraph.op import OPS, infer, kernel_parameters


def simplify(graph: Graph) -> Graph:
    """The graph after the rules below, applied until nothing changes."""
    for _ in range(8):
        simpler = graph.rebuild(_rule)
        if simpler.outputs == graph.outputs:
            return simpler
        graph = simpler
    raise AssertionError("the rules of simplify undo one another")


def _rule(node: Node, inputs: tuple[Node, ...]) -> Node:
    if inputs != node.inputs:
        node = make_node(node.op, inputs, node.attrs, node.where)
    better: Node | None = node
    while better is not None:
        node, better = better, _better(better)
    return node


def _better(node: Node) -> Node | None:
    """What the first rule that has something to say makes of `node`."""
    for rule in _RULES.get(node.op.name, ()) or _BY_FACTORS.get(node.op.factors, ()):
        better = rule(node)
        if better is not None:
            assert better.type == node.type, f"{rule.__name__}: {node} became {better}"
            return better
    return None


def _new(name: str, *inputs: Node, like: Node, **attrs: object) -> Node:
    return make_node(OPS[name], inputs, tuple(sorted(attrs.items())), like.where)


def _is_constant(node: Node, value: float) -> bool:
    return node.op.name == "constant" and node.attr("value") == value


def _is_scalar(node: Node) -> bool:
    return node.type.shape == ()


def unstretch(node: Node) -> Node | None:
    """add(broadcast(x), y) = add(x, y) where y has the shape of the result anyway: operands broadcast by themselves."""
    for index, operand in enumerate(node.inputs):
        source = operand
        while source.op.name in ("broadcast_like", "broadcast_to") or _leading_ones(source):
            source = source.inputs[0]
        if source is operand:
            continue
        inputs = (*node.inputs[:index], source, *node.inputs[index + 1 :])
        if infer(node.op, operand_types(node.op, inputs, node.attrs), node.attrs).types == node.types:
            return make_node(node.op, inputs, node.attrs, node.where)
    return None


def stretch_last(node: Node) -> Node | None:
    """negative(broadcast(x)) = broadcast(negative(x)): compute on the few elements, stretch afterwards."""
    (x,) = node.inputs
    if x.op.name not in ("broadcast_like", "broadcast_to") or "at" in kernel_parameters(node.op.kernel):
        return None
    if node.op.name == "shard":  # a wish about this shape
        return None
    small = make_node(node.op, (x.inputs[0],), node.attrs, node.where)
    return make_node(x.op, (small, *x.inputs[1:]), x.attrs, node.where)


def _leading_ones(node: Node) -> bool:
    """Whether `node` only puts axes of length 1 in front, which broadcasting does too."""
    return node.op.name == "expand_dims" and node.attr("axis") == tuple(range(len(node.attr("axis"))))


def drop_one(node: Node) -> Node | None:
    """`x * 1` = x and `x / 1` = x."""
    x, y = node.inputs
    if _is_constant(y, 1) and x.type == node.type:
        return x
    if node.op.name == "multiply" and _is_constant(x, 1) and y.type == node.type:
        return y
    return None


def group_scalars(node: Node) -> Node | None:
    """`s * (t * x)` = (s * t) * x for scalars s and t: one pass over x instead of two."""
    for s, product in (node.inputs, node.inputs[::-1]):
        if _is_scalar(s) and product.op.name == "multiply" and not _is_scalar(product):
            for t, x in (product.inputs, product.inputs[::-1]):
                if _is_scalar(t):
                    return _new("multiply", _new("multiply", s, t, like=node), x, like=node)
    return None


def factor_scalar(node: Node) -> Node | None:
    """`s * x + s * y` = s * (x + y) for a scalar s, and so with -s: both parts of a gradient have the 1 / count."""
    left, right = (_scalar_product(one) for one in node.inputs)
    if left is None or right is None or left[0] is not right[0] or not left[2].type == right[2].type == node.type:
        return None
    (s, left_sign, x), (_, right_sign, y) = left, right
    if node.op.name == "subtract":
        right_sign = -right_sign
    if left_sign < 0:
        x, y, left_sign, right_sign = y, x, right_sign, left_sign
    if left_sign < 0:
        return None
    together = _new("add" if right_sign > 0 else "subtract", x, y, like=node)
    return _new("multiply", s, together, like=node)


def _scalar_product(node: Node) -> tuple[Node, int, Node] | None:
    """(s, sign, x), where `node` is s * x or -s * x for a scalar s."""
    if node.op.name != "multiply" or _is_scalar(node):
        return None
    for s, x in (node.inputs, node.inputs[::-1]):
        sign = 1
        while s.op.name == "negative" or _leading_ones(s):
            sign = -sign if s.op.name == "negative" else sign
            s = s.inputs[0]
        if _is_scalar(s) and x.type == node.type:
            return s, sign, x
    return None


def power_of_small(node: Node) -> Node | None:
    """`x ** 1` = x and `x ** 2` = square(x)."""
    x, y = node.inputs
    if _is_constant(y, 1) and x.type == node.type:
        return x
    if _is_constant(y, 2) and x.type == node.type:
        return _new("square", x, like=node)
    return None


def sum_of_products(node: Node) -> Node | None:
    """sum(x * y) over all axes is one inner product, sum(square(x)) that of x with itself."""
    (x,) = node.inputs
    axes = node.attr("axes")
    if len(axes) != x.type.ndim or x.type.dtype.kind != "f" or not axes:
        return None
    if x.op.name == "square":
        product = _new("inner_product", x.inputs[0], x.inputs[0], like=node)
    elif x.op.name == "multiply" and all(one.type == x.type for one in x.inputs):
        product = _new("inner_product", *x.inputs, like=node)
    else:
        return None
    return _new("expand_dims", product, like=node, axis=axes) if node.attr("keepdims") else product


def double_transpose(node: Node) -> Node | None:
    """transpose(transpose(x)) is one transpose, or x."""
    (x,) = node.inputs
    order = node.attr("axes")
    if order == tuple(range(len(order))):
        return x
    if x.op.name == "transpose":
        inner = x.attr("axes")
        return _new("transpose", x.inputs[0], like=node, axes=tuple(inner[axis] for axis in order))
    return None


def double_reshape(node: Node) -> Node | None:
    """reshape(reshape(x)) = reshape(x), also where axes of length 1 came or went; a reshape to the shape of x is x."""
    (x,) = node.inputs
    if x.type == node.type:
        return x
    if x.op.name in ("reshape", "expand_dims", "squeeze"):
        return _new("reshape", x.inputs[0], like=node, shape=node.attr("shape"))
    return None


def undo_expand(node: Node) -> Node | None:
    """squeeze(expand_dims(x)) = x, and the other way round."""
    (x,) = node.inputs
    partner = {"squeeze": "expand_dims", "expand_dims": "squeeze"}[node.op.name]
    if x.op.name == partner and x.attr("axis") == node.attr("axis"):
        return x.inputs[0]
    return None


_RULES: dict[str, tuple[Callable[[Node], Node | None], ...]] = {
    "add": (unstretch, factor_scalar),
    "subtract": (unstretch, factor_scalar),
    "multiply": (unstretch, drop_one, group_scalars),
    "divide": (unstretch, drop_one),
    "power": (unstretch, power_of_small),
    "sum": (sum_of_products,),
    "transpose": (double_transpose,),
    "reshape": (double_reshape,),
    "squeeze": (undo_expand,),
    "expand_dims": (undo_expand,),
}

_BY_FACTORS: dict[object, tuple[Callable[[Node], Node | None], ...]] = {
    "... -> ...": (stretch_last,),
    "..., ... -> ...": (unstretch,),
    "..., ..., ... -> ...": (unstretch,),
}
"""The rules of all other elementwise ops."""
