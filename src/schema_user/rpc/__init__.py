"""The RPC wires: Connect, gRPC-Web and gRPC, each with JSON or binary messages, for the operations of the REST API.

A message becomes the body that the same operation takes by REST, with the same rules, and goes to the same function;
its view becomes the answer's message. Whatever differs from one operation to the next stands in a ``Method``.
"""
