"""Damaged model files: bytes changed, or fields of the message, at random but told by a seed."""

import random

import onnx
from google.protobuf.descriptor import FieldDescriptor

NUMBERS = (-1, 0, 1, 2, 7, 255, 2**15, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))
WORDS = (
    "",
    "x",
    "..",
    "../x",
    "/etc/passwd",
    "a\0b",
    "\x1b[2J",
    "INT4",
    "SAME_UPPER",
    "If",
    "Loop",
)
OPERATORS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Quant", "Trunc", "BipolarQuant", "QuantizeLinear",
    "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "Reshape",
    "Expand", "Tile", "Pad", "Concat", "Split", "Clip", "Relu", "MaxPool", "Transpose", "Cast",
    "ConstantOfShape", "Range", "Slice", "Gather", "Einsum", "LSTM", "Mul", "Add", "Where", "Shape",
)  # fmt: skip


def mutated(data, seed):
    """The bytes of a model, changed in one to six places."""
    rng = random.Random(seed)
    if rng.random() < 0.3:
        return _bytes_changed(bytearray(data), rng)
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.randint(1, 6)):
        _field_changed(model, rng)
    try:
        return model.SerializeToString()
    except Exception:  # a message that cannot be written is no file
        return _bytes_changed(bytearray(data), rng)


def _bytes_changed(data, rng):
    kind = rng.randrange(5)
    if kind == 0:
        del data[rng.randrange(len(data)) :]
    elif kind == 1:
        start = rng.randrange(len(data))
        del data[start : start + rng.randint(1, 64)]
    elif kind == 2:
        start = rng.randrange(len(data))
        data[start:start] = data[start : start + rng.randint(1, 4096)] * rng.randint(1, 20)
    for _ in range(rng.choice((0, 1, 1, 2, 8, 64)) if kind < 3 else rng.randint(1, 8)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _field_changed(message, rng):
    """Go down to some field of the message and change it."""
    while True:
        fields = list(message.DESCRIPTOR.fields)
        present = [field for field, _ in message.ListFields()]
        field = rng.choice(present if present and rng.random() < 0.9 else fields)
        down = field.type == FieldDescriptor.TYPE_MESSAGE
        if not down or rng.random() < 0.15:
            break
        inner = getattr(message, field.name)
        if not field.is_repeated:
            message = inner
        elif len(inner):
            message = inner[rng.randrange(len(inner))]
        else:
            break
    if field.is_repeated:
        _list_changed(getattr(message, field.name), field, rng)
    elif field.type == FieldDescriptor.TYPE_MESSAGE or rng.random() < 0.1:
        message.ClearField(field.name)
    else:
        _set(message, field, rng)


def _list_changed(items, field, rng):
    kind = rng.randrange(4)
    if kind == 0 and len(items):
        del items[rng.randrange(len(items))]
    elif kind == 1 and len(items) > 1:
        first, second = rng.sample(range(len(items)), 2)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            items[first].CopyFrom(items[second])
        else:
            items[first], items[second] = items[second], items[first]
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        items.add()
        if len(items) > 1:
            items[-1].CopyFrom(items[rng.randrange(len(items) - 1)])
    else:
        value = _value(field, rng, list(items[:64]))
        try:
            if len(items) and kind == 2:
                items[rng.randrange(len(items))] = value
            else:
                items.append(value)
        except (TypeError, ValueError):  # an enumeration takes few numbers
            del items[:]


def _set(message, field, rng):
    try:
        setattr(message, field.name, _value(field, rng, [getattr(message, field.name)]))
    except (TypeError, ValueError):  # an enumeration takes few numbers
        message.ClearField(field.name)


def _value(field, rng, others):
    """Something for a field of this type: hostile, or what is there, a little changed."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice((*WORDS, *OPERATORS, *(str(other) for other in others)))
    if field.type == FieldDescriptor.TYPE_BYTES:
        data = bytearray(rng.choice(others) if others else b"x")
        if data and rng.random() < 0.7:
            data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data)
        return bytes(data[: rng.randint(0, len(data))])
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 0.5, 1e30, -1e-30, float("inf"), float("nan")))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return rng.random() < 0.5
    number = rng.choice(NUMBERS) if rng.random() < 0.5 else rng.randint(-3, 40)
    narrow = field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM)
    return max(-(2**31), min(2**31 - 1, number)) if narrow else number
