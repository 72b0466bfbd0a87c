"""Hollow nodes: one asyncio process that plays many kubelets against a real API server.

records, phases, backoff, environment, behaviour    pure: what a kubelet would report and decide
logs, volumes, instances, keeper                    what a container is here: a log, volumes, a process or a sleeper
containers, pods, node, server                      one pod, one kubelet, what it says of its machine, `kubectl logs`
nodes, control                                      all of them, and the way to reboot, vanish, fail

What is honest here and what is not played at all: docs/hollow-nodes.md.
"""
