"""Whether mistral-common takes requests, by its rules for a version of the tokenizer.

`python mistral_rules.py` reads a JSON object, lists of requests by version, and writes one: of each version
what is wrong with the first request that it refuses, or nothing. PYTHONPATH decides which release says so.
"""

import json
import sys

from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
from mistral_common.tokens.tokenizers.base import TokenizerVersion


def complaint(version: TokenizerVersion, requests: list[dict[str, object]]) -> str:
    validator = get_validator(version, ValidationMode.serving)
    try:
        for request in requests:
            validator.validate_request(ChatCompletionRequest.from_openai(**request))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    sent = json.load(sys.stdin)
    json.dump({name: complaint(TokenizerVersion(name), told) for name, told in sent.items()}, sys.stdout)
