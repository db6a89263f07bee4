"""Every error Hoverboard raises on purpose, in one tree: `rpc` has those that a client sees, `local` all others.

A JSON-RPC error comes in and goes out as the class of its code and `data.type`, so that a client raises the very classes
that the server answered with.

HoverboardError                     code    HTTP  retryable
|- RpcError
|  |- ParseError                   -32700   200   no
|  |- InvalidRequest               -32600   200   no
|  |- UnknownMethod                -32601   200   no
|  |- InvalidParams                -32602   200   no     details: pointer, expected, got
|  |- InternalError                -32603   200   no
|  |  |- ModelFailed               -32603   200   no     the graph raised on this sample
|  |  |- NonFiniteOutput           -32603   200   no     the graph answered NaN or Infinity
|  |- NotFound                     -32001   200   no
|  |  |- ModelNotFound
|  |  |- VersionNotFound
|  |- NotReady                     -32002   503   yes
|  |- Overloaded                   -32005   503   yes
|  |- RequestTooLarge              -32007   413   no
|  |- ResponseTooLarge             -32008   200   no
|  |- BatchTooLarge                -32010   200   no
|  |- DeadlineExceeded             -32012   200   yes
|  |- Unauthorized                 -32013   401   no
|  |- Cancelled                    -32800          no     never sent: whoever asked has gone; counted and recorded
|- Unreachable                     a client got no answer that is JSON-RPC
|- EngineMissing                   what was asked for needs TensorFlow, which is not installed here
|- StaleSignature                  never leaves the service: the api re-encodes and tries again
|- VersionRefused                  a version on disk that must not go live, and why
|- PublishError                    what `hoverboard publish` was given cannot become a version
|- ConfigError                     a setting, a flag or a serving.toml that makes no sense
|- DataDirLocked                   another service already owns the data directory
|- NewerFormat                     a journal that a newer Hoverboard has written
|- PortInUse                       another service already listens on the port
|- DatabaseUnavailable             Postgres cannot be used now, and why
|- IssueRefused                    there is no such issue, or it is part of another one
|- MigrationRefused                the database's schema is not what this version's migrations make
"""

from hoverboard.errors.local import (
    MACHINE,
    ConfigError,
    DatabaseUnavailable,
    DataDirLocked,
    EngineMissing,
    HoverboardError,
    IssueRefused,
    MigrationRefused,
    NewerFormat,
    PortInUse,
    PublishError,
    StaleSignature,
    Unreachable,
    VersionRefused,
)
from hoverboard.errors.rpc import (
    BY_KIND,
    VIOLATIONS,
    BatchTooLarge,
    Cancelled,
    Cause,
    DeadlineExceeded,
    InternalError,
    InvalidParams,
    InvalidRequest,
    ModelFailed,
    ModelNotFound,
    NonFiniteOutput,
    NotFound,
    NotReady,
    Overloaded,
    ParseError,
    RequestTooLarge,
    ResponseTooLarge,
    RpcError,
    Unauthorized,
    UnknownMethod,
    VersionNotFound,
    Violation,
)

__all__ = [
    "BY_KIND",
    "MACHINE",
    "VIOLATIONS",
    "BatchTooLarge",
    "Cancelled",
    "Cause",
    "ConfigError",
    "DataDirLocked",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "EngineMissing",
    "HoverboardError",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "IssueRefused",
    "MigrationRefused",
    "ModelFailed",
    "ModelNotFound",
    "NewerFormat",
    "NonFiniteOutput",
    "NotFound",
    "NotReady",
    "Overloaded",
    "ParseError",
    "PortInUse",
    "PublishError",
    "RequestTooLarge",
    "ResponseTooLarge",
    "RpcError",
    "StaleSignature",
    "Unauthorized",
    "UnknownMethod",
    "Unreachable",
    "VersionNotFound",
    "VersionRefused",
    "Violation",
]
