"""Named tuples that kernels are given the address of.

As numba compiles a named tuple, a function that takes one takes each of its arrays apart into seven arguments, and a
call from Python takes all arrays apart: with a hundred of them a tenth of a millisecond, whatever is done with them. A
tuple marked `by_address` is one pointer in a kernel, and a field is read where it is used. What it points to is laid
out here, by Python. State stays where it is from call to call, and so does what it was laid out as (`Place`); arrays
that are made for one call lie in one block, so that one address gives all of theirs (`CallArrays`).
"""

import itertools
import math
import struct
from typing import Any, NamedTuple, TypeVar

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import PrimitiveModel
from numba.core.typing.templates import AttributeTemplate
from numba.extending import NativeValue, infer_getattr, lower_getattr_generic, register_model, typeof_impl, unbox

from tgn.compiling.aligned import LINE

Class = TypeVar("Class", bound=type)

WORD = ir.IntType(64)  # every number is one, and an array is seven or more, as numba has them
DATA = 4  # which of its words is the address of an array's data


class ByAddress(types.Type):
    """A named tuple of Python's, which kernels are given the address of."""

    def __init__(self, instance_class: type, fields: tuple[types.Type, ...]) -> None:
        self.instance_class = instance_class
        self.fields = dict(zip(instance_class._fields, fields, strict=True))  # type: ignore[attr-defined]
        super().__init__(name=f"{instance_class.__name__}({', '.join(str(field) for field in fields)})")

    @property
    def mangling_args(self) -> tuple[str, tuple[Any, ...]]:
        """The class alone: with the fields, symbols would be pages long."""
        return self.instance_class.__name__, ()


class _Address(NamedTuple):
    address: int


class AtAddress(_Address):
    """Stands for a named tuple in a call from Python: its address. A subclass for each class and kind of its fields.

    numba knows a named tuple by the name of its class, and looks no further than at its one number.
    """

    of: ByAddress
    keeps: tuple[Any, ...]  # what lies at the address, and what that points to


MARKED: dict[type, dict[tuple[Any, ...], type[AtAddress]]] = {}
"""The classes marked, each with the forms that it came in, by the kinds of its fields."""


_NUMBER = itertools.count()  # no two forms have one name


def by_address(instance_class: Class) -> Class:
    """Marks a named tuple that Python gives to kernels and no kernel makes.

    Its fields are arrays, numbers, and tuples of them.
    """
    MARKED[instance_class] = {}
    return instance_class


class Place:
    """Where one named tuple after the other is laid out for kernels; of fields that are the same, nothing is done."""

    def __init__(self) -> None:
        self._value: tuple[Any, ...] = ()
        self._kinds: list[Any] = []
        self._inner: dict[int, Place] = {}  # of the fields that are marked themselves
        self._starts: list[int] = []
        self._words = np.zeros(0, np.int64)
        self._held: AtAddress | None = None

    def __reduce__(self) -> Any:
        """A copy holds nothing: it is not where the copied arrays are."""
        return Place, ()

    def hold(self, value: Any) -> Any:
        """What to give to kernels in place of `value`, as long as nothing else is held here.

        Raises TypeError where a field is neither an array nor a number nor a tuple of them.
        """
        if value is self._value and self._held is not None:
            return self._held
        before = self._value if type(value) is type(self._value) else (None,) * len(value)
        changed = [n for n, (old, new) in enumerate(zip(before, value, strict=True)) if old is not new]
        words, kinds = dict[int, list[int]](), list(self._kinds) or [None] * len(value)
        if len(changed) == len(value):
            kinds = [None] * len(value)
        for n in changed:
            words[n], kinds[n] = self._laid_out(n, value[n])
        if self._held is None or kinds != self._kinds:
            for n in set(range(len(value))) - words.keys():
                words[n], kinds[n] = self._laid_out(n, value[n])
            self._begin(type(value), kinds, [len(words[n]) for n in range(len(value))])
        assert self._held is not None
        for n, of_field in words.items():
            self._words[self._starts[n] : self._starts[n] + len(of_field)] = of_field
        self._value = value
        self._held.keeps = self._words, value, *self._inner.values()
        return self._held

    def words(self) -> np.ndarray:
        """A copy of what lies here."""
        return self._words.copy()

    def _begin(self, instance_class: type, kinds: list[Any], sizes: list[int]) -> None:
        self._starts = np.cumsum([0, *sizes[:-1]]).tolist()
        self._words, self._kinds = np.zeros(sum(sizes), np.int64), kinds
        forms = MARKED[instance_class]
        if tuple(kinds) not in forms:
            fields = tuple(_numba_type(kind) for kind in kinds)
            name = f"{instance_class.__name__}{next(_NUMBER)}"
            forms[tuple(kinds)] = type(name, (AtAddress,), {"of": ByAddress(instance_class, fields)})
        self._held = forms[tuple(kinds)](self._words.ctypes.data)

    def _laid_out(self, n: int, field: Any) -> tuple[list[int], Any]:
        """The words of a field, and its kind."""
        if type(field) in MARKED:
            held = self._inner.setdefault(n, Place()).hold(field)
            return [held[0]], type(held)
        words = list[int]()
        return words, _lay_out(field, words)


class CallColumn(NamedTuple):
    """An array of a `CallArrays`."""

    dtype: type
    shape: tuple[int, ...]
    fill: int = 0


class CallArrays:
    """Makes tuples of arrays for one call each, every one of them in one piece of memory.

    Args:
        like: the tuple, a `CallColumn` in the place of each array; those in it hold none.
    """

    def __init__(self, like: Any) -> None:
        self._class, self._parts, columns = type(like), list[tuple[Any, slice | int]](), list[CallColumn]()
        for part in like:
            first = len(columns)
            columns += [part] if isinstance(part, CallColumn) else part
            self._parts.append((part, first) if isinstance(part, CallColumn) else (part, slice(first, len(columns))))
        sizes = [math.prod(column.shape) * np.dtype(column.dtype).itemsize for column in columns]
        *starts, self._size = np.cumsum([0, *(-(-size // LINE) * LINE for size in sizes)]).tolist()
        self._columns = [
            (column.shape, np.dtype(column.dtype), start, column.fill)
            for column, start in zip(columns, starts, strict=True)
        ]
        words = np.cumsum([0, *(5 + 2 * len(column.shape) for column in columns[:-1])]) + DATA
        place = Place()
        self._form = type(place.hold(self._filled(np.zeros(self._size, np.uint8))))
        self._words = place.words()
        self._words[words] = starts
        self._is_data = np.zeros_like(self._words)  # 1: to this word the address of the memory is added
        self._is_data[words] = 1

    def new(self) -> tuple[Any, Any]:
        """A tuple, and what to give to kernels in its place."""
        memory = np.zeros(self._size, np.uint8)
        words = self._is_data * _address(memory)
        words += self._words
        value = self._filled(memory)
        held = self._form(_address(words))
        held.keeps = words, value
        return value, held

    def _filled(self, memory: np.ndarray) -> Any:
        arrays = []
        for shape, dtype, start, fill in self._columns:
            array = np.ndarray(shape, dtype, memory, start)
            if fill:
                array.fill(fill)
            arrays.append(array)
        return self._class(*[arrays[at] if isinstance(at, int) else part._make(arrays[at]) for part, at in self._parts])


def _address(array: np.ndarray) -> int:
    """Where the data of an array lies; `ctypes.data` is the same, and takes three times as long."""
    address: int = array.__array_interface__["data"][0]
    return address


def _lay_out(value: Any, words: list[int]) -> Any:
    """Appends the words of a value; returns its kind. Of arrays kernels read data, shape and strides alone."""
    if isinstance(value, np.ndarray):
        shape = value.shape
        words += 0, 0, value.size, value.itemsize, _address(value), *shape, *value.strides
        return value.dtype.char, len(shape), value.flags.carray
    if isinstance(value, tuple):
        return type(value), tuple([_lay_out(part, words) for part in value])
    if type(value) is float:
        words += struct.unpack("q", struct.pack("d", value))
    elif type(value) in (int, bool):
        words.append(value)
    else:
        raise TypeError(f"kernels read arrays and numbers at an address, not {type(value).__name__}")
    return type(value)


_NUMBERS: dict[Any, types.Type] = {int: types.int64, float: types.float64, bool: types.boolean}


def _numba_type(kind: Any) -> types.Type:
    if kind in _NUMBERS:
        return _NUMBERS[kind]
    found: types.Type
    if hasattr(kind, "of"):  # a form of `AtAddress`
        found = kind.of
    elif isinstance(kind[0], str):
        char, dimensions, whole = kind
        if not whole:
            raise TypeError("kernels read arrays that are contiguous and can be written")
        found = typeof_impl(np.zeros((1,) * dimensions, char), None)
    else:
        instance_class, parts = kind
        found = types.BaseTuple.from_types([_numba_type(part) for part in parts], instance_class)
    return found


@typeof_impl.register(AtAddress)
def _typeof_held(value: AtAddress, context: Any) -> ByAddress:
    return value.of


@register_model(ByAddress)
class _AddressModel(PrimitiveModel):
    def __init__(self, manager: Any, of: ByAddress) -> None:
        values = [manager.lookup(field).get_value_type() for field in of.fields.values()]
        words = [WORD if value == ir.IntType(1) else value for value in values]
        super().__init__(manager, of, ir.LiteralStructType(words).as_pointer())


@infer_getattr
class _Fields(AttributeTemplate):
    key = ByAddress

    def generic_resolve(self, of: ByAddress, name: str) -> types.Type | None:
        return of.fields.get(name)


@lower_getattr_generic(ByAddress)
def _read_field(context: Any, builder: Any, of: ByAddress, pointer: Any, name: str) -> Any:
    """Loads a field; nothing writes one while a kernel runs, which LLVM is told."""
    place = list(of.fields).index(name)
    value = _read(builder, cgutils.gep_inbounds(builder, pointer, 0, place))
    return builder.trunc(value, ir.IntType(1)) if of.fields[name] == types.boolean else value


def _read(builder: Any, pointer: Any) -> Any:
    """The value at an address: of a struct, member by member, so that what is not used is not loaded."""
    kind = pointer.type.pointee
    if isinstance(kind, ir.LiteralStructType | ir.ArrayType):
        value = ir.Constant(kind, ir.Undefined)
        for member in range(len(kind.elements) if isinstance(kind, ir.LiteralStructType) else kind.count):
            part = _read(builder, cgutils.gep_inbounds(builder, pointer, 0, member))
            value = builder.insert_value(value, part, member)
        return value
    loaded = builder.load(pointer)
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


@unbox(ByAddress)
def _read_address(of: ByAddress, instance: Any, c: Any) -> NativeValue:
    address = c.pyapi.long_as_longlong(c.pyapi.tuple_getitem(instance, 0))
    return NativeValue(c.builder.inttoptr(address, c.context.get_value_type(of)))
