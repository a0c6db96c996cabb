# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""An ICE agent by python3-aioice, as a process of its own: ice_peer.py controlling|controlled FOLDER [OWN STUN RELAY IKE]

Writes its description to FOLDER/local.json, waits for FOLDER/remote.json, runs the checks, then prints each payload
that arrives on the selected pair in hex. Both files: {"ufrag", "pwd", "candidates": [as in SDP, without "candidate:"]}.

With the four addresses (ADDRESS, the others ADDRESS:PORT) it does ICE for an IKE daemon that knows none: its candidates are those of
OWN, as itself and as STUN sees it; payloads of the selected pair go from RELAY to IKE, and what comes to RELAY goes there.
"""
import asyncio
import json
import os
import sys

import aioice


def publish(folder, name, value):
    """A file appears whole or not at all."""
    with open(os.path.join(folder, name + ".new"), "w") as f:
        json.dump(value, f)
    os.rename(os.path.join(folder, name + ".new"), os.path.join(folder, name))


def host_port(text):
    """("ADDRESS", PORT)"""
    host, _, port = text.rpartition(":")
    return host, int(port)


class Relay(asyncio.DatagramProtocol):
    """What the IKE daemon sends, to the agent."""

    def __init__(self, agent):
        self.agent, self.loop = agent, asyncio.get_running_loop()

    def datagram_received(self, data, addr):
        self.loop.create_task(self.agent.send(data))


async def main(role, folder, own=None, stun=None, relay=None, ike=None):
    """One agent's life, until it is killed."""
    agent = aioice.Connection(ice_controlling=role == "controlling", components=1, use_ipv6=False, stun_server=stun and host_port(stun))
    await agent.gather_candidates()
    ours = [c for c in agent.local_candidates if own in (None, c.host, c.related_address)]
    publish(folder, "local.json", {"ufrag": agent.local_username, "pwd": agent.local_password, "candidates": [c.to_sdp() for c in ours]})
    while not os.path.exists(folder + "/remote.json"):
        await asyncio.sleep(0.01)
    with open(folder + "/remote.json") as f:
        remote = json.load(f)
    agent.remote_username, agent.remote_password = remote["ufrag"], remote["pwd"]
    for text in remote["candidates"]:
        await agent.add_remote_candidate(aioice.Candidate.from_sdp(text))
    await agent.add_remote_candidate(None)
    await agent.connect()
    if relay:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Relay(agent), local_addr=host_port(relay))
        to = host_port(ike)
    print("connected controlling=%s" % agent.ice_controlling, flush=True)
    while True:
        data = await agent.recv()
        if relay:
            transport.sendto(data, to)
        else:
            print("payload " + data.hex(), flush=True)


asyncio.run(main(*sys.argv[1:]))
