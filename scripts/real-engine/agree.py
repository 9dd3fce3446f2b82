"""Holds a load test's results against what the server said of each request: agree.py NAME RESULTS_DIR REQUESTS

Two counts of an answer's tokens have to agree: the server's usage, and ours of the answer's text. llama.cpp counts the
token that ends an answer of itself, which has no text; an answer that was cut at its limit has none. So the server's
count is ours or one more, and both occur. A prompt's count differs by what the chat template puts around it.
"""

import json
import sys
from pathlib import Path


def disagreements(request, is_stream):
    if request["class"] != "ok":
        yield f"{request['class']}: {request['error']}"
        return
    server, ours = request["server_output_tokens"], request["client_output_tokens"]
    if server is None or ours is None:
        yield f"output tokens were not counted twice: {server} by the server, {ours} here"
    elif server - ours not in (0, 1):
        yield f"output tokens: {server} by the server, {ours} here"
    elif is_stream and request["chunks"] != ours:
        yield f"{request['chunks']} chunks with content, expected one for each of {ours} tokens"
    if request["server_input_tokens"] is None:
        yield "the server did not count the prompt"


def main():
    name, directory, expected = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    report = json.loads((directory / "report.json").read_text())
    requests = [json.loads(line) for line in (directory / "requests.jsonl").read_text().splitlines()]
    wrong = [
        f"request {request['index']}: {what}"
        for request in requests
        for what in disagreements(request, report["workload"]["stream"])
    ]
    # What the chat template puts around a prompt is the same for all.
    around = {r["server_input_tokens"] - r["prompt_tokens"] for r in requests if r["server_input_tokens"] is not None}
    if len(around) != 1 or min(around) < 0:
        wrong.append(f"the prompts have {sorted(around)} tokens more by the server's count, expected one number for all")
    if len(requests) != expected:
        wrong.append(f"{len(requests)} requests, expected {expected}")
    counted = [r for r in requests if r["server_output_tokens"] is not None and r["client_output_tokens"] is not None]
    more = sum(r["server_output_tokens"] - r["client_output_tokens"] for r in counted)
    difference = report["token_accounting"]["difference"]
    if difference["n"] != len(counted) or (counted and abs(difference["mean"] - more / len(counted)) > 1e-9):
        wrong.append(f"the report's {difference} is not what its requests say: {more} more over {len(counted)}")
    if not 0 < more < len(counted):
        wrong.append(f"{more} of {len(counted)} answers ended of themselves, expected some and not all")
    for what in wrong[:10]:
        print(f"{name}: {what}", file=sys.stderr)
    tokens = sum(r["server_output_tokens"] for r in counted)
    print(
        f"{name}: {len(counted)} answers, {tokens} tokens by the server's count, {tokens - more} by ours and {more} ends; "
        f"{len(wrong)} disagreements"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
