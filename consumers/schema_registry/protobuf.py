"""Values in Protobuf."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message

MAIN = "freshet_schema.proto"
MAX_NESTED = 100


def protobuf_reader(schema: str, references: Mapping[str, str]) -> Callable[[bytes], Any]:
    """A reader of the messages of a .proto file, which a list of indexes before each names.

    What a message does not set is left out: a field without presence (proto3 without `optional`) that is 0 or empty is
    not there, as in Protobuf's own JSON. A `google.protobuf.Timestamp` becomes epoch ms, an enum its name.
    """
    files = _compile(schema, references)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    [main] = [file for file in files.file if file.name == MAIN]
    classes: dict[tuple[int, ...], type[Message]] = {}

    def read(data: bytes) -> Any:
        path, start = _indexes(data)
        if path not in classes:
            name = ".".join(part for part in (main.package, *_names(main.message_type, path)) if part)
            classes[path] = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        return _fields(classes[path].FromString(data[start:]))

    return read


def _compile(schema: str, references: Mapping[str, str]) -> descriptor_pb2.FileDescriptorSet:
    """The descriptors of a .proto file and of those that it imports. Raises ValueError with what protoc says."""
    with tempfile.TemporaryDirectory(prefix="freshet-proto-") as name:
        folder = Path(name).resolve()
        for file, text in {**references, MAIN: schema}.items():
            path = (folder / file).resolve()
            if not path.is_relative_to(folder):
                raise ValueError(f"it refers to {file!r}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        out = folder / "descriptors"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", "--include_imports"]
        done = subprocess.run([*command, f"--descriptor_set_out={out}", MAIN], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(done.stderr)
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def _names(messages: Sequence[descriptor_pb2.DescriptorProto], path: Sequence[int]) -> list[str]:
    """The names along a path of indexes into messages and those nested in them."""
    names = []
    for index in path:
        names.append(messages[index].name)
        messages = messages[index].nested_type
    return names


def _indexes(data: bytes) -> tuple[tuple[int, ...], int]:
    """Which message of the file follows, and where it begins; a lone 0 stands for the first of all."""
    count, at = _zigzag(data, 0)
    if count == 0:
        return (0,), at
    if not 0 < count <= MAX_NESTED:
        raise ValueError("no list of message indexes")
    path = []
    for _ in range(count):
        index, at = _zigzag(data, at)
        if index < 0:
            raise ValueError("no index of a message")
        path.append(index)
    return tuple(path), at


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    """A signed varint, and where the next byte is."""
    number = shift = 0
    while shift < 35:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
    raise ValueError("a varint without an end")


def _fields(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            of_values = field.message_type.fields_by_name["value"]
            found[field.name] = {str(key): _plain(of_values, value[key]) for key in value}
        elif field.is_repeated:
            found[field.name] = [_plain(field, one) for one in value]
        else:
            found[field.name] = _plain(field, value)
    return found


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        name = field.message_type.full_name
        if name == "google.protobuf.Timestamp":
            return value.ToMilliseconds()
        if name.startswith("google.protobuf."):
            wraps = name.endswith("Value") and "value" in field.message_type.fields_by_name
            return value.value if wraps else json_format.MessageToDict(value)
        return _fields(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named is not None else value
    return value.decode() if isinstance(value, bytes) else value
