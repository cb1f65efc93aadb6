"""A Ray address where nobody listens is one sentence at once, not minutes of Ray's own lines."""

import socket

import pytest

from cluster.ray_cluster import connect
from farm.errors import ClusterError


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ClusterError, match=rf"'127\.0\.0\.1:{port}' cannot be reached: .*refused.*6379"):
        connect(f"127.0.0.1:{port}")


def test_a_port_that_cannot_be_one_is_told_too() -> None:
    with pytest.raises(ClusterError, match="cannot be reached"):
        connect("127.0.0.1:99999999")
