r"""A proved upper bound of what ``is_valid`` of the engine jsonschema-rs takes, for the schemas that have one.

The bound is linear in the document. What a schema does to one value is charged to bytes of that value alone: its
quotes, brackets and comma, its text, the key before it. Each byte belongs to one value, so the price of a byte is the
sum over all schemas that visit the value, at the worst level of the document: levels are unrolled down to
``MAX_LEVELS``, so a recursion that visits a value twice doubles its price at each level, and has no bound in the end.
What happens at most once in a document (properties of properties of the root) is fixed, not charged to bytes.

Without a bound are references in a circle that enters no value, ``$dynamicRef``, ``$recursiveRef``, ``unevaluated…``,
``content…``, ``uniqueItems`` where it isn't behind items of texts (``ordered``; values whose hashes collide are
compared in pairs, and two numbers such as 1e-300 take 51 µs to compare), the formats ``regex`` and ``idn-…``, patterns
that look around, refer back, have a ``\b`` or flags, or are large, and documents of more than ``_MAX_SCHEMAS``.

The prices below are nanoseconds, the highest that were measured with jsonschema-rs 0.60.3, on documents and schemas
made for being slow (numbers such as 5e-324 and 1.8e308, objects of one key, texts that a pattern decides late, 3,000
bred patterns, each in a new validator); the result is ``_SAFETY`` times as high.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from schema_user.validation.annex_b import strict_pattern
from schema_user.validation.dialect import IN_PLACE, OLD, Dialect, subschemas
from schema_user.validation.formats import FORMATS, checkers
from schema_user.validation.outline import Outline
from schema_user.validation.patterns import Refused, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_LEVELS: Final = 64
"""How deep the document may nest: the bound holds for no deeper ones."""
_MAX_STEPS: Final = 150_000
_MAX_OBJECTS: Final = 10_000
_MAX_SCHEMAS: Final = 4_000
_MAX_CHARACTERS: Final = 500
"""Of a pattern."""
_MAX_FOLLOWED: Final = 5
_MAX_PRICE: Final = 1e9
_SAFETY: Final = 4

_CALL: Final = 5_000
"""The first call of a validator; later ones take 200."""
_BASE: Final = 5
"""A byte of any document: the keys of the outermost object are looked at even by the empty schema."""
_VISIT: Final = 20
_KEYWORD: Final = 25
_KEY: Final = 60
"""A key, for each keyword that looks at keys and for each pattern among them."""
_TEXT: Final = 1
"""A byte of a text, for each keyword that reads texts: length, equality, hash."""
_DEPENDENCY: Final = 60
_OPTION: Final = 80
"""A value in ``enum`` or ``const``, or inside one of them."""
_NUMBER_OPTION: Final = 60_000
_WHOLE_LIMIT: Final = 2_000
_OTHER_LIMIT: Final = 45_000
_WHOLE_DIVISOR: Final = 6_000
_OTHER_DIVISOR: Final = 70_000
_WORD_BITS: Final = 63
_MAX_BITS: Final = 1_100
_FORMAT: Final = 300
_LENT_FORMAT: Final = 1_000
_FORMAT_TEXT: Final = 25
_EMAIL: Final = 6_000
_EMAIL_TEXT: Final = 100
"""By ``is_plain_email()``, which leaves the others to a worker."""
_PHONE: Final = 120_000
_PHONE_FIRST: Final = 300_000
"""For the expressions of a country; its table takes up to 6 ms more, unless all are loaded before."""
_UNIQUE: Final = 125
"""Half of what a text takes among such that must be unique, as it has twice the bytes of the smallest item: up to 15 of
them are compared in pairs, more by hash."""
_UNIQUE_TEXT: Final = 2
_BEHIND: Final = {"uniqueItems": True}
_TEXTS: Final = frozenset({"string", "boolean", "null"})
_PATTERN: Final = 20_000
_PATTERN_PLACE: Final = 100
_PATTERN_TEXT: Final = 25
"""A byte of a text, for each place of a pattern; a place is what the smallest atom compiles to."""
_NESTED_TEXT: Final = 100
"""The same, where a group is repeated that has a choice or repeats something itself."""
_ONE_PLACE_TEXT: Final = 5
_PLACE_BYTES: Final = 150
_MAX_PLACES: Final = 2_000
_MAX_FEW_PLACES: Final = 500
"""Of a pattern whose automaton is remembered whole."""

_FORMATS_WITHOUT: Final = frozenset({"regex", "idn-email", "idn-hostname"})
_WITHOUT: Final = frozenset(
    {"$dynamicRef", "$recursiveRef", "unevaluatedItems", "unevaluatedProperties", "contentEncoding", "contentMediaType"}
)
_ANNOTATIONS: Final = frozenset(
    {
        "$schema",
        "$id",
        "id",
        "$anchor",
        "$comment",
        "$defs",
        "definitions",
        "title",
        "description",
        "default",
        "examples",
    }
)
_DEPENDENCIES: Final = frozenset({"dependencies", "dependentRequired", "dependentSchemas"})
_OF_KEYS: Final = frozenset({
    "properties", "patternProperties", "additionalProperties", "propertyNames", "required", *_DEPENDENCIES,
})  # fmt: skip
_LIMITS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_READING: Final = frozenset({"minLength", "maxLength", "enum", "const", "pattern", "format"})
_UNKNOWN_COST: Final = re.compile(r"\\[bB]|\(\?[a-z-]")
_WIDE: Final = re.compile(r"[^\x00-\x7f]|\.|\[\^|\\[DWSsuxcpP]")
"""What may take more than one byte."""
_VARYING: Final = re.compile(r"[*+?]|\{\d+,")
_UNENDING: Final = re.compile(r"[*+]|\{\d+,\}")
_ONE_PLACE: Final = re.compile(r"\^(?:[^\\^$|?*+()\[\]{}](?:\{\d+\})?)*(?:[*+?]|\{\d+,\d*\})?\$?")
_LITERALS: Final = re.compile(r"\\.|\[\^?(?:\\.|[^\]\\])*\]", re.DOTALL)
_GROUPS: Final = re.compile(r"\([^()]*\)")

_ITEM: Final = 2
"""Bytes of the smallest item: a digit and a comma. A property has 5 with an empty name: quotes, colon, digit, comma."""
_PROPERTY: Final = 5
_LONG: Final = 4
"""So many bytes more has the smallest value that is slow: 5e-99, "+123"."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What ``is_valid`` takes at most for a document of n bytes of JSON: ``fixed_ns + ns_per_byte * n`` nanoseconds.

    It holds for a schema that is compiled ``quick`` (``rust.py``), and for documents of at most ``MAX_LEVELS`` levels
    whose integers fit into 64 bits. ``chain`` is the largest
    number of schemas that apply to one value inside one another: a document of d levels calls as deep as d times that.
    """

    ns_per_byte: float
    chain: int
    fixed_ns: float

    def seconds(self, size: int) -> float:
        """Give the seconds for so many bytes."""
        return (self.fixed_ns + self.ns_per_byte * size) * 1e-9


def ordered(document: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Copy a schema so that the engine looks at ``uniqueItems`` behind the ``items``, where these must be texts.

    By itself it compares the items before it looks at their types. It comes to ``allOf`` after ``items``, so
    ``uniqueItems`` moves into one, which means the same. In a document that is too large for a bound all stays.
    """
    if _is_large(document) or '"uniqueItems": true' not in (text := json.dumps(document)):
        return dict(document)
    copy: dict[str, Any] = json.loads(text)
    outline = Outline(copy, dialect)
    for schema in [each.schema for each in outline]:
        if schema.get("uniqueItems") is True and _has_texts(schema, dialect, outline):
            del schema["uniqueItems"]
            schema["allOf"] = [*schema.get("allOf", []), dict(_BEHIND)]
    return copy


def _has_texts(schema: Mapping[str, Any], dialect: Dialect, outline: Outline) -> bool:
    """Tell whether every item of an array must be a text, a truth or null."""
    items = schema.get("items")
    if "prefixItems" in schema or (dialect in OLD and "$ref" in schema):
        return False
    for _ in range(_MAX_FOLLOWED):
        if not isinstance(items, dict):
            return False
        types = items.get("type")
        if isinstance(types, str | list) and not (dialect in OLD and "$ref" in items):
            return _TEXTS.issuperset([types] if isinstance(types, str) else types)
        items = next(iter(outline.targets(items)), None)
    return False


class _Unbounded(Exception):
    """No bound is proved."""


@dataclass(slots=True)
class _Node:
    """One schema: what a visit of it costs by itself, and the numbers of the schemas that it leads to.

    ``slow`` is what a visit costs more if the value is long enough to be slow. ``text`` is for each byte of a text and
    ``key`` for each key. What is bounded for one text can be counted as ``single`` for a visit or ``slow_text`` for a
    byte. ``once`` is for the first visit of all.
    """

    visit: float = _VISIT
    slow: float = 0
    single: float = 0
    slow_text: float = 0
    text: float = 0
    key: float = 0
    once: float = 0
    in_place: list[int] = field(default_factory=list)
    names: list[int] = field(default_factory=list)
    named: list[tuple[int, int]] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    patterned: list[int] = field(default_factory=list)
    prefix: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)

    def below(self, price: Callable[[int, int], float], named: Callable[[int, int], float]) -> float:
        """Sum what visits a child, at the worst child; ``price`` is that of a schema, given the child's least bytes."""
        most = 0.0
        for number, size in self.named:
            most = max(most, named(number, size))
        in_object = max(most, self._sum(price, self.others, _PROPERTY)) + self._sum(price, self.patterned, _PROPERTY)
        prefix = max([price(number, _ITEM) for number in self.prefix], default=0)
        return max(in_object, prefix + self._sum(price, self.items, _ITEM))

    @staticmethod
    def _sum(price: Callable[[int, int], float], numbers: list[int], size: int) -> float:
        return sum([price(number, size) for number in numbers]) if numbers else 0

    def key_text(self, price: Callable[[int, int], float]) -> float:
        """Price a byte of a key."""
        return self.text + self.key / _PROPERTY + sum(price(number, _PROPERTY) for number in self.names)

    def edges(self) -> int:
        """Count the schemas that it leads to."""
        others = (self.in_place, self.others, self.patterned, self.prefix, self.items)
        return len(self.named) + sum(len(numbers) for numbers in others)


def bound(document: Mapping[str, Any], dialect: Dialect) -> Bound | None:
    """Find a bound for a schema that has passed the gate; None if none is proved, or finding it takes too long.

    It takes 3 ms for the median of 450 published schemas, and at most about 0.3 s on a busy machine.
    """
    if _is_large(document):
        return None
    try:
        return _Study(Outline(dict(document), dialect)).result()
    except _Unbounded:
        return None


class _Study:
    """The schemas of a document as numbered nodes, the root first, and their prices."""

    def __init__(self, outline: Outline) -> None:
        self._dialect = outline.dialect
        if outline.bad_references:
            raise _Unbounded
        if sum(1 for _ in outline) > _MAX_SCHEMAS:
            raise _Unbounded
        self._numbers = {id(each.schema): number for number, each in enumerate(outline)}
        self._true = len(self._numbers)
        self._nodes = [self._node(each.schema, outline) for each in outline]
        self._nodes += [_Node(), _Node(visit=_UNIQUE, text=_UNIQUE_TEXT)]
        self._order, circular = _postorder(self._nodes, lambda node: [*node.in_place, *node.names])
        if circular:
            raise _Unbounded

    def _number(self, schema: Any) -> int:
        return self._numbers.get(id(schema), self._true)

    def _node(self, schema: dict[str, Any], outline: Outline) -> _Node:
        node = _Node()
        for keyword, value in schema.items():
            if keyword in _ANNOTATIONS:
                continue
            node.visit += _KEYWORD
            node.key += _KEY * (keyword in _OF_KEYS)
            node.text += _TEXT * (keyword in _READING or keyword in _OF_KEYS)
            self._price(node, keyword, value, schema.get("maxLength", math.inf))
        node.in_place += [self._number(target) for target in outline.targets(schema)]
        unique = _has_texts(schema, self._dialect, outline)
        for tokens, inner in subschemas(schema, self._dialect):
            if unique and tokens[0] == "allOf" and inner == _BEHIND:
                node.items.append(self._true + 1)
            else:
                self._lead(node, tokens, self._number(inner))
        return node

    def _price(self, node: _Node, keyword: str, value: Any, longest: float) -> None:
        if keyword in _WITHOUT:
            raise _Unbounded
        if keyword in {"enum", "const"}:
            _price_options(node, value)
        elif keyword in _LIMITS:
            node.slow += _WHOLE_LIMIT if _is_whole(value) else _OTHER_LIMIT
        elif keyword == "uniqueItems":
            node.visit += math.inf if value is True else 0
        elif keyword == "multipleOf":
            node.slow += _WHOLE_DIVISOR if _is_whole(value) else _OTHER_DIVISOR
        elif keyword == "format":
            self._price_format(node, value)
        elif keyword == "pattern":
            _price_pattern(node, value, most=4 * longest)  # the engine looks at maxLength first
        elif keyword == "patternProperties":
            for pattern in value:
                _price_pattern(node, pattern, of_keys=True)
        elif keyword in _DEPENDENCIES and isinstance(value, dict):
            listed = sum(len(each) for each in value.values() if isinstance(each, list))
            node.visit += _DEPENDENCY * (len(value) + listed)

    def _price_format(self, node: _Node, name: str) -> None:
        if name in _FORMATS_WITHOUT:
            raise _Unbounded
        if name in FORMATS:
            node.visit += _LENT_FORMAT if name in checkers(self._dialect) else _FORMAT
            node.text += _EMAIL_TEXT if name == "email" else _FORMAT_TEXT
            node.once += _PHONE_FIRST * (name == "phone")
            node.slow += _PHONE * (name == "phone") + _EMAIL * (name == "email")

    def _lead(self, node: _Node, tokens: tuple[str | int, ...], number: int) -> None:
        keyword = tokens[0]
        if keyword in IN_PLACE:
            node.in_place.append(number)
        elif keyword == "properties":
            node.named.append((number, _PROPERTY + len(str(tokens[1]))))
        elif keyword == "additionalProperties":
            node.others.append(number)
        elif keyword == "patternProperties":
            node.patterned.append(number)
        elif keyword == "propertyNames":
            node.names.append(number)
        elif keyword == "prefixItems" or (keyword == "items" and len(tokens) > 1):
            node.prefix.append(number)
        elif keyword in {"items", "additionalItems"}:
            node.items.append(number)
        elif keyword == "contains":
            node.items += [number, number]  # minContains and maxContains may count apart

    def result(self) -> Bound:
        """Price the root, as what is visited once or by its bytes, whichever is less for a document of 4 KiB."""
        chains = [1] * len(self._nodes)
        visits, slows, texts = ([0.0] * len(self._nodes) for _ in range(3))

        def own_price(number: int, size: int) -> float:
            return visits[number] / size + slows[number] / (size + _LONG) + texts[number]

        for number in self._order:
            node = self._nodes[number]
            chains[number] += max((chains[each] for each in [*node.in_place, *node.names]), default=0)
            visits[number] = node.visit + sum(visits[each] for each in node.in_place)
            slows[number] = node.slow + sum(slows[each] for each in node.in_place)
            own = max(node.text + node.slow_text, node.key_text(own_price))
            texts[number] = own + sum(texts[each] for each in node.in_place)
        first = sum(node.once for node in self._nodes)
        deep = self._deep(own_price)

        def price(number: int, size: int) -> float:
            return max(own_price(number, size), deep[number])

        fixed, rate = min(
            (visits[0] + slows[0], max(texts[0], deep[0])),
            self._once(price),
            key=lambda pair: pair[0] + 4096 * pair[1],
        )
        if not max(fixed, rate) < _MAX_PRICE:
            raise _Unbounded
        return Bound(_SAFETY * (_BASE + rate), max(chains), _SAFETY * (_CALL + first + fixed))

    def _deep(self, price: Callable[[int, int], float]) -> list[float]:
        """Price a byte of the descendants of a value that a schema visits, at the worst level of ``MAX_LEVELS``."""
        worst = [0.0] * len(self._nodes)
        before: list[list[float]] = []
        inner = [(number, self._nodes[number]) for number in self._order if self._nodes[number].edges()]
        steps = sum(node.edges() for _, node in inner)
        for count in range(1, MAX_LEVELS + 1):
            if count * steps > _MAX_STEPS:
                raise _Unbounded
            level = [0.0] * len(self._nodes)
            for number, node in inner:
                level[number] = node.below(price, price) + sum(level[each] for each in node.in_place)
            worst = list(map(max, worst, level))
            if max(worst) > _MAX_PRICE:
                raise _Unbounded
            if level in before[-2:]:
                break
            before.append(level)
            price = _at(level)
        return worst

    def _once(self, price: Callable[[int, int], float]) -> tuple[float, float]:
        """Price the root, with what it visits by names once; names that lead back to themselves, by bytes."""
        order, _ = _postorder(self._nodes, lambda node: [*node.in_place, *(number for number, _ in node.named)])
        fixed: dict[int, float] = {}
        rates: dict[int, float] = {}

        def named(number: int, size: int) -> float:
            return rates[number] if number in rates else price(number, size)

        for number in order:
            node = self._nodes[number]
            if any(each not in fixed for each in node.in_place):
                continue  # leads back to a schema that this one is inside of
            once = [*node.in_place, *(each for each, _ in node.named if each in fixed)]
            fixed[number] = node.visit + node.slow + node.single + sum(fixed[each] for each in once)
            own = max(node.text, node.key_text(price))
            rates[number] = max(own, node.below(price, named)) + sum(rates[each] for each in node.in_place)
        return fixed[0], rates[0]


def _at(level: list[float]) -> Callable[[int, int], float]:
    return lambda number, _size: level[number]


def _postorder(nodes: list[_Node], edges: Callable[[_Node], Iterable[int]]) -> tuple[list[int], bool]:
    """Order nodes so that those that one leads to come before it, and tell whether some lead back to themselves."""
    order: list[int] = []
    state = [0] * len(nodes)
    circular = False
    for start in range(len(nodes)):
        stack = [(start, False)]
        while stack:
            number, left = stack.pop()
            if left:
                state[number] = 2
                order.append(number)
            elif state[number] == 0:
                state[number] = 1
                stack.append((number, True))
                inner = list(edges(nodes[number]))
                circular = circular or any(state[each] == 1 for each in inner)
                stack.extend((each, False) for each in inner if state[each] == 0)
    return order, circular


def _is_large(document: Any) -> bool:
    count, stack = 0, [document]
    while stack and count <= _MAX_OBJECTS:
        value = stack.pop()
        if isinstance(value, dict):
            count += 1
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return count > _MAX_OBJECTS


def _is_whole(value: Any) -> bool:
    """Tell whether a number is compared without fractions: an integer of 64 bits."""
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise _Unbounded
    return isinstance(value, int) and value.bit_length() <= _WORD_BITS


def _price_options(node: _Node, options: Any) -> None:
    if isinstance(options, list) and all(isinstance(each, str) for each in options):
        node.visit += _OPTION  # a look-up by hash
        return
    stack = [options]
    while stack:
        value = stack.pop()
        node.visit += _OPTION
        if isinstance(value, dict):
            stack.extend(value.values())
            node.visit += _OPTION * len(value)
        elif isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            _is_whole(value)
            node.slow += _NUMBER_OPTION


def _price_pattern(node: _Node, pattern: str, *, most: float = math.inf, of_keys: bool = False) -> None:
    """Price a pattern for texts of at most so many bytes.

    The engine may be in all places at each byte. In a pattern such as ``^[A-Z][a-z-]{2,9}$`` it is in one at a time,
    and meets each for the first time only once.
    """
    pattern = strict_pattern(pattern)
    if len(pattern) > _MAX_CHARACTERS:
        raise _Unbounded
    try:
        size, backtracks = read(pattern)
    except Refused:
        raise _Unbounded from None
    places = math.ceil(size / _PLACE_BYTES) + 1
    if backtracks or places > _MAX_PLACES or _UNKNOWN_COST.search(pattern):
        raise _Unbounded
    node.once += _PATTERN + _PATTERN_PLACE * places
    node.key += _KEY * of_keys
    bare = _LITERALS.sub("x", pattern).replace("(?:", "(")
    if places <= _MAX_FEW_PLACES and _ONE_PLACE.fullmatch(bare):
        node.text += _ONE_PLACE_TEXT
        node.once += _PATTERN_TEXT * places
        return
    short = _is_short(bare)
    most = min(most, places if short else math.inf)
    nested = _is_nested(bare)
    price = places * (_NESTED_TEXT if nested else _PATTERN_TEXT)
    if short and not nested and bare.count("(") <= 1 and not _VARYING.search(bare) and not _WIDE.search(pattern):
        # The only choice: in it, and behind it, the engine is in one place for each branch.
        price = min(places, 2 * (1 + bare.count("|"))) * _PATTERN_TEXT
    if of_keys or most == math.inf:
        node.text += price
    else:
        node.single += price * most
        node.slow_text += price


def _is_short(bare: str) -> bool:
    """Tell whether a pattern has decided after no more bytes than it has places: begins with ^, all repetitions end."""
    if not bare.startswith("^") or _UNENDING.search(bare):
        return False
    while (inner := _GROUPS.sub("x", bare)) != bare:
        bare = inner
    return "|" not in bare


def _is_nested(bare: str) -> bool:
    """Tell whether a group is repeated that has a choice or repeats something itself."""
    varying = [False]
    for index, sign in enumerate(bare):
        if sign == "(":
            varying.append(False)
        elif sign == ")" and len(varying) > 1:
            repeated = bare[index + 1 : index + 2] in {"*", "+", "?", "{"}
            inner = varying.pop()
            if inner and repeated:
                return True
            varying[-1] = varying[-1] or inner or repeated
        else:
            varying[-1] = varying[-1] or sign in "*+?{|"
    return False
