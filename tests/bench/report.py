# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""What tests/bench/plane.py has measured: goals, a table of text, a plot (SVG), and the same in docs/performance.md."""
import html
import re
import statistics

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
COLOURS = {"tieline": "#1f6fb4", "null": "#8fbbe0", "bare": "#b9c9d6", "wireguard": "#c8553d", "strongswan": "#d9a441", "veth": "#8a8a8a"}

# (name, heading, unit, decimals, where more is better)
FIGURES = [
    ("tcp1", "TCP, one stream", "Gbit/s", 2, True),
    ("tcp4", "TCP, four streams", "Gbit/s", 2, True),
    ("tcp1_ip6", "TCP, one stream, IPv6 inside", "Gbit/s", 2, True),
    ("hard", "TCP, one stream, hard wire", "Gbit/s", 2, True),
    ("udp1200", "UDP 1200 bytes, loss under 1 %", "kpps", 1, True),
    ("udp64", "UDP 64 bytes, loss under 1 %", "kpps", 1, True),
    ("flood", "UDP flood, what arrives", "kpps", 1, True),
    ("tcp1_cpu", "CPU, both ends, of TCP", "s/GB", 2, False),
    ("hard_cpu", "CPU, both ends, of TCP, hard wire", "s/GB", 2, False),
    ("ping_idle", "ping, idle", "ms", 3, False),
    ("ping_load", "ping beside four streams", "ms", 3, False),
    ("rss_peak", "memory in a UDP flood, all of an end", "MiB", 1, False),
    ("rss_one", "memory in a UDP flood, largest process", "MiB", 1, False),
    ("rss_after", "memory after it", "MiB", 1, False),
]


def summary(rounds):
    """{name: {"median", "min", "max", "n"}} of [{name: value}, ...]"""
    ret = {}
    for name in sorted({k for r in rounds for k in r}):
        values = [r[name] for r in rounds if name in r]
        ret[name] = {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}
    return ret


def ratio(result, name, a, b):
    """Median of a/b of the same rounds, or None."""
    pairs = [(x.get(name), y.get(name)) for x, y in zip(result["rounds"].get(a, []), result["rounds"].get(b, []))]
    ratios = [x / y for x, y in pairs if x is not None and y]
    return statistics.median(ratios) if ratios else None


def goals(result):
    """[(figure, goal in words, measured or None, met or None)]"""
    rows = []

    def add(words, goal, value, met):
        rows.append((words, goal, value, None if value is None else met(value)))

    def compare(words, name, a, b, limit, least=True):
        add(words, "%s %g" % ("at least" if least else "at most", limit), ratio(result, name, a, b),
            (lambda v: v >= limit) if least else (lambda v: v <= limit))

    compare("TCP one stream, tieline / null relay", "tcp1", "tieline", "null", 0.9)
    compare("TCP one stream, tieline / wireguard-go", "tcp1", "tieline", "wireguard", 15)
    compare("hard wire, tieline / null relay", "hard", "tieline", "null", 0.9)
    compare("UDP 64 bytes, tieline / wireguard-go", "udp64", "tieline", "wireguard", 2)
    compare("UDP 1200 bytes, tieline / wireguard-go", "udp1200", "tieline", "wireguard", 2)
    compare("CPU per GB, tieline / null relay", "tcp1_cpu", "tieline", "null", 1.2, False)
    compare("ping beside four streams, tieline / null relay", "ping_load", "tieline", "null", 3, False)
    rss = result["summary"].get("tieline", {}).get("rss_peak")
    add("resident memory in a UDP flood, MiB", "at most 16", rss and rss["max"], lambda v: v <= 16)
    for kind, words in (("stun", "a STUN answer"), ("ike", "an IKE answer")):
        worst = [load[kind].get("p99") for name, load in result.get("delay", {}).items() if name != "none"]
        add("%s under full load, 99th percentile, ms" % words, "at most 5", None if None in worst or not worst else max(worst),
            lambda v: v <= 5)
    g = result.get("grants", {}).get("packet")
    add("a packet with 1,000 grants / with 1", "at most 1.05", g and g["1000"][0] / g["1"][0], lambda v: v <= 1.05)
    return rows


def limits(result):
    """[(figure, measured or None)]: how near it is to what TUN and UDP cost without any work, and how far even that is from the goals."""
    return [(words, ratio(result, name, a, b)) for words, name, a, b in (
        ("TCP one stream, tieline / bare relay", "tcp1", "tieline", "bare"),
        ("TCP one stream, bare relay / wireguard-go", "tcp1", "bare", "wireguard"),
        ("UDP 1200 bytes, tieline / bare relay", "udp1200", "tieline", "bare"),
        ("UDP 1200 bytes, bare relay / wireguard-go", "udp1200", "bare", "wireguard"))]


def _cell(s, name, decimals):
    v = s.get(name)
    return "-" if v is None else "%.*f (%.*f to %.*f)" % (decimals, v["median"], decimals, v["min"], decimals, v["max"])


def tables(result):
    """[(heading, [row, ...])], the first row of each being its head"""
    keys = [k for k in COLOURS if k in result["summary"]]
    rows = [["figure", "unit"] + [result["titles"][k] for k in keys]]
    for name, words, unit, decimals, _ in FIGURES:
        cells = [_cell(result["summary"][k], name, decimals) for k in keys]
        if any(c != "-" for c in cells):
            rows.append([words, unit] + cells)
    ret = [("Medians of %d rounds (minimum to maximum)" % result["n_rounds"], rows)]
    if result.get("delay"):
        rows = [["load", "question", "answers", "lost", "median ms", "99th percentile ms", "worst ms"]]
        for load, kinds in result["delay"].items():
            for kind, d in kinds.items():
                rows.append([{"none": "none", "tcp4": "four TCP streams", "udp": "UDP flood"}[load], kind.upper(), str(d["n"]), str(d["lost"])]
                            + ["%.2f" % d[k] if k in d else "-" for k in ("median", "p99", "worst")])
        ret.append(("tieline: from a STUN check or IKE request to its answer", rows))
    if result.get("grants"):
        numbers = list(result["grants"]["packet"])
        rows = [["nanoseconds a packet, both ends"] + numbers]
        for kind, words in (("packet", "of an open flow, oldest grant"), ("spread", "each of another grant"), ("opening", "the first of a flow")):
            rows.append([words] + ["%.0f" % result["grants"][kind][n][0] for n in numbers])
        ret.append(("tieline: grants that are up", rows))
    rows = [["figure", "goal", "measured", ""]]
    for words, goal, value, met in goals(result):
        rows.append([words, goal, "-" if value is None else "%.2f" % value, "not measured" if met is None else "met" if met else "not met"])
    ret.append(("Goals (ratios of the same round, median)", rows))
    rows = [[words, "%.2f" % value] for words, value in limits(result) if value is not None]
    if rows:
        ret.append(("The machine's limits (ratios of the same round, median)", [["figure", "measured"]] + rows))
    return ret


def text(result):
    """For a terminal."""
    out = []
    for heading, rows in tables(result):
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        out.append(heading)
        out += ["  " + "  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip() for r in rows] + [""]
    for key, why in result["missing"].items():
        out.append("left out: %s: %s" % (key, why))
    for note in result["notes"]:
        out.append("note: " + note)
    return "\n".join(out)


def markdown(result, svg):
    """For docs/performance.md."""
    m = result["machine"]
    out = ["Measured %s with `%s`: %s, %d processors, %d MiB of memory, %s. %s." % (
        result["date"], result["command"], m["cpu"], m["n_cpus"], m["memory_mib"], m["kernel"],
        ", ".join("%s %s" % v for v in result["versions"].items())), "",
        "tieline's packets are encrypted with AES-128-GCM by %s." % result["aead"], ""]
    if svg:
        out += ["![the same as bars](%s)" % svg, ""]
    for heading, rows in tables(result):
        out += ["**%s**" % heading, "", "| %s |" % " | ".join(rows[0]), "|" + "---|" * len(rows[0])]
        out += ["| %s |" % " | ".join(r) for r in rows[1:]] + [""]
    out += ["Left out: %s: %s." % item for item in result["missing"].items()]
    out += ["Note: %s." % note for note in result["notes"]]
    return "\n".join(out).rstrip() + "\n"


def write_docs(path, result, svg):
    """Puts the results between the two markers of a page."""
    with open(path) as f:
        page = f.read()
    new = re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: "%s\n%s%s" % (BEGIN, markdown(result, svg), END), page, flags=re.S)
    with open(path, "w") as f:
        f.write(new)


# ---- the plot ----

def _bars(result, name, words, unit, decimals, x, y, width):
    """One figure: a bar a contestant, its length the median, a line from minimum to maximum. Returns (lines, height)."""
    keys = [k for k in COLOURS if name in result["summary"].get(k, {})]
    if not keys:
        return [], 0
    top = max(result["summary"][k][name]["max"] for k in keys) or 1
    left, room = x + 160, width - 160 - 75
    out = ['<text x="%d" y="%d" class="h">%s, %s</text>' % (x, y + 14, html.escape(words), unit)]
    at = y + 22
    for k in keys:
        v = result["summary"][k][name]
        low, mid, high = (left + room * v[n] / top for n in ("min", "median", "max"))
        out += ['<text x="%d" y="%d" text-anchor="end">%s</text>' % (left - 6, at + 11, html.escape(result["titles"][k][:26])),
                '<rect x="%d" y="%d" width="%.1f" height="12" fill="%s"/>' % (left, at + 1, max(mid - left, 0.5), COLOURS[k]),
                '<path d="M%.1f %dH%.1fM%.1f %dv6M%.1f %dv6" stroke="#222"/>' % (low, at + 7, high, low, at + 4, high, at + 4),
                '<text x="%.1f" y="%d">%.*f</text>' % (max(high, mid) + 5, at + 11, decimals, v["median"])]
        at += 17
    return out, at - y + 12


def svg(result):
    """All figures, in two columns."""
    width, column, out, heights = 940, 460, [], [44, 44]
    for name, words, unit, decimals, more in FIGURES:
        side = heights.index(min(heights))
        better = "more is better" if more else "less is better"
        lines, height = _bars(result, name, "%s (%s)" % (words, better), unit, decimals, 10 + side * column, heights[side], column)
        out += lines
        heights[side] += height
    head = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">' % (width, max(heights) + 6),
            '<style>.h{font-weight:bold;font-size:12px}path{fill:none}</style>',
            '<rect width="100%" height="100%" fill="#fff"/>',
            '<text x="10" y="22" font-size="14" font-weight="bold">Data plane: medians of %d rounds, %s</text>' % (
                result["n_rounds"], html.escape(result["machine"]["cpu"]))]
    return "\n".join(head + out + ["</svg>"]) + "\n"
