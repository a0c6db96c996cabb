#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Networks and stock peers: a strongSwan road warrior joins a network of tielined's, and tielined that of a strongSwan gateway, with
ESP in user space at both ends. The steps are in networks.py."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import networks as n      # noqa: E402


def network(lab):
    "both ends run; tielined is registered"
    n.begin(lab, n.RoadWarrior, "user")


lablib.main("tni", [network, n.no_address, n.road_warrior, n.into_the_network, n.new_keys, n.leaves, n.gateway, n.through_the_gateway, n.hangs_up,
                    n.empty_pool], needs=charon.NEEDS)
