"""CEL text → a tree of what filters know of the language (https://github.com/google/cel-spec).

The grammar is CEL's, without maps, messages and bytes; Lark makes the parser of it. Nothing here recurses, however deep
a text is nested.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import LarkError, UnexpectedInput, VisitError

MAX_CHARS = 8_000
MAX_DEPTH = 24
MAX_COST = 200  # of all nodes together
COSTS = {"method": 10, "function": 10, "<": 4, "<=": 4, ">": 4, ">=": 4, "literal": 0, "name": 0}
"""What may read every text of a column costs more; of other nodes each 1."""
_WORD = re.compile(r"\w+")

GRAMMAR = r"""
?expr: or_ | or_ "?" or_ ":" expr             -> choose
?or_: and_ | or_ "||" and_                    -> either
?and_: relation | and_ "&&" relation          -> both
?relation: addition | relation RELATION addition -> compare
?addition: product | addition SIGN product    -> arithmetic
?product: unary | product FACTOR unary        -> arithmetic
?unary: member | "!" unary                    -> negate
      | MINUS unary                           -> minus
?member: primary
       | member "." IDENT                     -> select
       | member "." IDENT "(" list_? ")"     -> method
       | member "[" expr "]"                  -> index
?primary: IDENT                               -> name
        | IDENT "(" list_? ")"               -> function
        | "(" expr ")"
        | "[" "]"                             -> list_of
        | "[" expr ("," expr)* ","? "]"       -> list_of
        | NUMBER                              -> number
        | UINT                                -> number
        | STRING                              -> string
list_: expr ("," expr)*
RELATION: "==" | "!=" | "<=" | ">=" | "<" | ">" | /in(?![_a-zA-Z0-9])/
SIGN: "+" | MINUS
MINUS: "-"
FACTOR: "*" | "/" | "%"
UINT.3: /0x[0-9a-fA-F]+[uU]/ | /[0-9]+[uU]/
NUMBER.2: /0x[0-9a-fA-F]+/ | /([0-9]*\.[0-9]+|[0-9]+)([eE][+-]?[0-9]+)?/
STRING.4: /[rR]?("{3}[\s\S]*?(?<!\\)(\\\\)*"{3}|'{3}[\s\S]*?(?<!\\)(\\\\)*'{3})/
        | /[rR]?("([^"\\\n\r]|\\.)*"|'([^'\\\n\r]|\\.)*')/
IDENT: /[_a-zA-Z][_a-zA-Z0-9]*/
%ignore /[\t\n\f\r ]+/
%ignore /\/\/[^\n]*/
"""


class FilterError(ValueError):
    """Why a text is no filter. `position`: the character at which it is noticed, from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.message, self.position = message, position


class Node(NamedTuple):
    """A part of a filter.

    `kind` and `args`: literal (value), list (nodes), name (text), select (node, name), function (name, nodes),
    method (node, name, nodes), compare (sign, left, right), arithmetic (sign, left, right), both, either (the
    nodes), negate, minus (node), choose (condition, then, else).
    """

    kind: str
    args: tuple[Any, ...]
    at: int  # character at which it begins

    def children(self) -> Iterator["Node"]:
        """The nodes in it."""
        for arg in self.args:
            if isinstance(arg, Node):
                yield arg
            elif isinstance(arg, tuple):
                yield from arg


def parse(text: str) -> Node:
    """The tree of a filter. Raises FilterError where it is none, or too long, deep or costly."""
    if len(text) > MAX_CHARS:
        raise FilterError(f"a filter has at most {MAX_CHARS} characters, this one has {len(text)}", MAX_CHARS)
    try:
        tree: Node = _PARSER.parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        at = error.pos_in_stream
        if at is None or getattr(getattr(error, "token", None), "type", "") == "$END":
            raise FilterError("the filter ends too early", len(text)) from None
        word = _WORD.match(text, at)
        raise FilterError(f"{word[0] if word else text[at]!r} is not expected here", at) from None
    except VisitError as error:
        raise error.orig_exc from None
    except LarkError as error:
        raise FilterError(f"this is no CEL: {error}", 0) from None
    _check_size(tree)
    return tree


def _check_size(tree: Node) -> None:
    cost, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise FilterError(f"a filter is nested at most {MAX_DEPTH} deep", node.at)
        cost += COSTS.get(node.args[0] if node.kind == "compare" else node.kind, 1)
        if cost > MAX_COST:
            raise FilterError(f"the filter is too large: it has more than {MAX_COST} parts", node.at)
        waiting += [(child, depth + 1) for child in node.children()]


@v_args(inline=True)
class _SyntaxNodes(Transformer[Token, Node]):
    """Makes nodes as the parser goes, so that no tree is ever walked down."""

    def name(self, name: Token) -> Node:
        constants = {"true": True, "false": False, "null": None}
        at = name.start_pos or 0
        return Node("literal", (constants[name],), at) if name in constants else Node("name", (str(name),), at)

    def number(self, token: Token) -> Node:
        at, text = token.start_pos or 0, token.rstrip("uU")
        value: int | float
        if text[:2] == "0x":
            value = int(text, 16)
        elif text.isdigit() and len(text) < 400:
            value = int(text)
        else:
            value = float(text)
        if (isinstance(value, int) and value > 1 << 63) or value == float("inf"):
            raise FilterError("a number is within 64 bits", at)
        return Node("literal", (value,), at)

    def string(self, token: Token) -> Node:
        return Node("literal", (_text(token),), token.start_pos or 0)

    def list_(self, *nodes: Node) -> tuple[Node, ...]:
        return nodes

    def list_of(self, *nodes: Node) -> Node:
        return Node("list", (nodes,), nodes[0].at if nodes else 0)

    def select(self, node: Node, name: Token) -> Node:
        return Node("select", (node, str(name)), node.at)

    def index(self, node: Node, key: Node) -> Node:
        if key.kind != "literal" or not isinstance(key.args[0], str):
            raise FilterError('between brackets stands the name of a field: item["a name"]', key.at)
        return Node("select", (node, key.args[0]), node.at)

    def method(self, node: Node, name: Token, nodes: tuple[Node, ...] = ()) -> Node:
        return Node("method", (node, str(name), nodes), name.start_pos or 0)

    def function(self, name: Token, nodes: tuple[Node, ...] = ()) -> Node:
        return Node("function", (str(name), nodes), name.start_pos or 0)

    def compare(self, left: Node, sign: Token, right: Node) -> Node:
        return Node("compare", (str(sign), left, right), left.at)

    def arithmetic(self, left: Node, sign: Token, right: Node) -> Node:
        if sign == "%":
            raise FilterError("% is not known to filters", sign.start_pos or 0)
        return Node("arithmetic", (str(sign), left, right), left.at)

    def both(self, left: Node, right: Node) -> Node:
        return _joined("both", left, right)

    def either(self, left: Node, right: Node) -> Node:
        return _joined("either", left, right)

    def negate(self, node: Node) -> Node:
        return Node("negate", (node,), node.at)

    def minus(self, sign: Token, node: Node) -> Node:
        value = node.args[0] if node.kind == "literal" else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Node("literal", (-value,), sign.start_pos or 0)
        return Node("minus", (node,), sign.start_pos or 0)

    def choose(self, condition: Node, then: Node, otherwise: Node) -> Node:
        return Node("choose", (condition, then, otherwise), condition.at)


def _joined(kind: str, left: Node, right: Node) -> Node:
    """A chain of && or || is one node, however long."""
    return Node(kind, ((*left.args, right) if left.kind == kind else (left, right)), left.at)


_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|[\s\S])")
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"} | {c: c for c in "\\?\"'`"}


def _text(token: Token) -> str:
    raw, body = token[0] in "rR", token.lstrip("rR")
    body = body[3:-3] if body[:3] in ('"""', "'''") else body[1:-1]
    if raw:
        return str(body)
    at = token.start_pos or 0

    def unescaped(found: re.Match[str]) -> str:
        code = found[1]
        if code in _PLAIN:
            return _PLAIN[code]
        number = int(code, 8) if code.isdigit() else int(code[1:], 16) if len(code) > 1 else -1
        if not 0 <= number <= 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise FilterError(f"\\{code} is no escape", at)
        return chr(number)

    return _ESCAPE.sub(unescaped, body)


_PARSER = Lark(GRAMMAR, start="expr", parser="lalr", transformer=_SyntaxNodes(), maybe_placeholders=False)
