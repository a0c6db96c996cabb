# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""An ICE agent by python3-aioice, as a process of its own: ice_peer.py controlling|controlled FOLDER

Writes its description to FOLDER/local.json, waits for FOLDER/remote.json, runs the checks, then prints each payload
that arrives on the selected pair in hex. Both files: {"ufrag", "pwd", "candidates": [as in SDP, without "candidate:"]}.
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


async def main(role, folder):
    """One agent's life, until it is killed."""
    agent = aioice.Connection(ice_controlling=role == "controlling", components=1, use_ipv6=False)
    await agent.gather_candidates()
    publish(folder, "local.json", {"ufrag": agent.local_username, "pwd": agent.local_password,
                                   "candidates": [c.to_sdp() for c in agent.local_candidates]})
    while not os.path.exists(folder + "/remote.json"):
        await asyncio.sleep(0.01)
    with open(folder + "/remote.json") as f:
        remote = json.load(f)
    agent.remote_username, agent.remote_password = remote["ufrag"], remote["pwd"]
    for text in remote["candidates"]:
        await agent.add_remote_candidate(aioice.Candidate.from_sdp(text))
    await agent.add_remote_candidate(None)
    await agent.connect()
    print("connected controlling=%s" % agent.ice_controlling, flush=True)
    while True:
        data = await agent.recv()
        print("payload " + data.hex(), flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2]))
