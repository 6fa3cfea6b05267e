"""The tokens by which chat templates mark roles, turns, calls and thoughts, taken apart where they stand in
text from outside: there a tokenizer would read them as the template's own. Pure.

They stay readable, a space takes their effect. What is stored is as it came.
"""

import re
from itertools import pairwise

# Wide forms, which some tokenizers take for the plain ones.
_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0xFE64: "<", 0xFE65: ">"}

_WORDS = "|".join(
    (
        r"s|bos|eos|pad|unk|mask|cls|sep|sop|eop|eot|escape",
        r"(?:start|end)_of_(?:turn|image|audio|utterance)|(?:image|audio)_soft_token",
        r"start_(?:system|user|assistant)|end_message|(?:start|end)_function_(?:call|response|declaration)",
        r"_?(?:end_)?think(?:ing)?|tool_?(?:call|response|result)s?|(?:available_)?tools?|tool_(?:def_)?sep",
        r"function_(?:call|response|result)s?|functions?|invoke|arg_(?:key|value)|parameters?|results?",
        r"extra_id_\d+|special_\d+|reserved_\d+|unused_?\d+|system|user|assistant|co|tool_output|param",
        r"image|video|audio|im_patch|reka_img_token|so_embedding|human|bot|ai|用户",
    )
)
_MARKS = "|".join(
    (
        r"INST|SYS|RESP|ARGS|IMG|IMG_BREAK|IMG_END|THINK|CALL_ID|PREFIX|SUFFIX|MIDDLE|AUDIO|BEGIN_AUDIO",
        r"AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|SYSTEM_PROMPT|MODEL_SETTINGS",
        r"CONTROL_\d+|UNUSED_TOKEN_\d+|gMASK",
    )
)

_ROLES = "system|user|human|assistant|ai|instruction|response|input|question|answer|[\u95ee\u7b54]"
_BREAK = r"[\n\r\x0b\x0c\x85\u2028\u2029]"

# What a text leaves open the template may close.
_CLOSE, _CLOSE_SQUARE = r"(?:>|\Z)", r"(?:\]|\Z)"

_TOKEN = re.compile(
    "|".join(
        (
            # ChatML, Llama 3 and 4, Phi, GLM, Kimi, Command, Granite, Harmony; DeepSeek with wide bars.
            rf"<(?=\|[^<>\n]{{1,64}}{_CLOSE})",
            # Gemma 4 closes with the bar.
            rf"<(?=[^\s<>|]{{1,32}}\|{_CLOSE})",
            # EXAONE.
            rf"\[(?=\|[^\]\n|]{{1,32}}\|{_CLOSE_SQUARE})",
            # Llama 2 and Mistral.
            rf"<(?=</?SYS>{_CLOSE})",
            rf"\[(?=/?(?:{_MARKS}){_CLOSE_SQUARE})",
            # Gemma, Hermes, Qwen, Nemotron, Seed, MiniMax and the older ones.
            rf"<(?=/?(?i:{_WORDS})(?:=[^<>\n]{{1,64}})?{_CLOSE})",
            rf"<(?=/?[a-z]{{1,16}}:[a-z_]{{1,32}}{_CLOSE})",
            r"\](?=~!?[a-z]{1,16}[\[\]])",
            r"\[(?=e~\[)",
        )
    )
)
# Alpaca, Vicuna, ChatGLM and others have nothing but words for it, at the beginning of a line. These are by
# themselves, so that either is looked for only where it can begin: at brackets, at breaks.
_SPEAKER = re.compile(rf"{_BREAK}(?:##?#? ?)?(?i:{_ROLES})(?=:)")


def defused(text: str) -> str:
    """The text with no token of a chat template in it."""
    plain = text if text.isascii() else text.translate(_PLAIN)
    ends = [found.end() for found in _TOKEN.finditer(plain)]
    if ":" in plain:
        ends = sorted([*ends, *(found.end() - 1 for found in _SPEAKER.finditer(f"\n{plain}"))])
    return " ".join(text[start:end] for start, end in pairwise([0, *ends, len(text)])) if ends else text
