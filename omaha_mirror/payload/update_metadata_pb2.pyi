from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers

DESCRIPTOR: _descriptor.FileDescriptor

class Signatures(_message.Message):
    __slots__ = ("signatures",)
    class Signature(_message.Message):
        __slots__ = ("data", "version")
        VERSION_FIELD_NUMBER: _ClassVar[int]
        DATA_FIELD_NUMBER: _ClassVar[int]
        version: int
        data: bytes
        def __init__(self, version: int | None = ..., data: bytes | None = ...) -> None: ...
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    signatures: _containers.RepeatedCompositeFieldContainer[Signatures.Signature]
    def __init__(self, signatures: _Iterable[Signatures.Signature | _Mapping] | None = ...) -> None: ...

class InstallInfo(_message.Message):
    __slots__ = ("hash", "size")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    size: int
    hash: bytes
    def __init__(self, size: int | None = ..., hash: bytes | None = ...) -> None: ...

class InstallOperation(_message.Message):
    __slots__ = ("data_length", "data_offset", "data_sha256_hash", "type")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_LENGTH_FIELD_NUMBER: _ClassVar[int]
    DATA_SHA256_HASH_FIELD_NUMBER: _ClassVar[int]
    type: int
    data_offset: int
    data_length: int
    data_sha256_hash: bytes
    def __init__(self, type: int | None = ..., data_offset: int | None = ..., data_length: int | None = ..., data_sha256_hash: bytes | None = ...) -> None: ...

class InstallProcedure(_message.Message):
    __slots__ = ("new_info", "old_info", "operations", "type")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    OLD_INFO_FIELD_NUMBER: _ClassVar[int]
    NEW_INFO_FIELD_NUMBER: _ClassVar[int]
    type: int
    operations: _containers.RepeatedCompositeFieldContainer[InstallOperation]
    old_info: InstallInfo
    new_info: InstallInfo
    def __init__(self, type: int | None = ..., operations: _Iterable[InstallOperation | _Mapping] | None = ..., old_info: InstallInfo | _Mapping | None = ..., new_info: InstallInfo | _Mapping | None = ...) -> None: ...

class DeltaArchiveManifest(_message.Message):
    __slots__ = ("block_size", "new_partition_info", "old_partition_info", "partition_operations", "procedures", "signatures_offset", "signatures_size")
    PARTITION_OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_SIZE_FIELD_NUMBER: _ClassVar[int]
    OLD_PARTITION_INFO_FIELD_NUMBER: _ClassVar[int]
    NEW_PARTITION_INFO_FIELD_NUMBER: _ClassVar[int]
    PROCEDURES_FIELD_NUMBER: _ClassVar[int]
    partition_operations: _containers.RepeatedCompositeFieldContainer[InstallOperation]
    block_size: int
    signatures_offset: int
    signatures_size: int
    old_partition_info: InstallInfo
    new_partition_info: InstallInfo
    procedures: _containers.RepeatedCompositeFieldContainer[InstallProcedure]
    def __init__(self, partition_operations: _Iterable[InstallOperation | _Mapping] | None = ..., block_size: int | None = ..., signatures_offset: int | None = ..., signatures_size: int | None = ..., old_partition_info: InstallInfo | _Mapping | None = ..., new_partition_info: InstallInfo | _Mapping | None = ..., procedures: _Iterable[InstallProcedure | _Mapping] | None = ...) -> None: ...
