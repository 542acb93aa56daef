"""Ask the health service of a SuperLink or SuperNode: ``health.py ADDRESS``; 0 is well."""

import sys

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

with grpc.insecure_channel(sys.argv[1]) as channel:
    try:
        found = HealthStub(channel).Check(HealthCheckRequest(), timeout=5)
    except grpc.RpcError as error:
        sys.exit(f"no answer: {error.code()}")
sys.exit(found.status != HealthCheckResponse.SERVING)
