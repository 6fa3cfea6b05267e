"""The tokens by which chat templates mark roles, turns, calls and thoughts, taken apart where they stand in
text from outside: there a tokenizer would read them as the template's own. Pure.

They stay readable, a space takes their effect. What is stored is as it came.
"""

import re

_WORDS = "|".join(
    (
        r"s|bos|eos|pad|unk|mask|cls|sep|sop|eop|eot|escape",
        r"(?:start|end)_of_(?:turn|image|audio|utterance)|(?:image|audio)_soft_token",
        r"start_(?:system|user|assistant)|end_message|(?:start|end)_function_(?:call|response|declaration)",
        r"_?(?:end_)?think(?:ing)?|tool_?(?:call|response|result)s?|(?:available_)?tools?|tool_(?:def_)?sep",
        r"function_(?:call|response|result)s?|functions?|invoke|arg_(?:key|value)|parameters?|results?",
        r"extra_id_\d+|special_\d+|reserved_\d+|unused_?\d+|system|user|assistant|co",
    )
)
_MARKS = "|".join(
    (
        r"INST|SYS|RESP|ARGS|IMG|IMG_BREAK|IMG_END|THINK|CALL_ID|PREFIX|SUFFIX|MIDDLE|AUDIO|BEGIN_AUDIO",
        r"AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|SYSTEM_PROMPT|MODEL_SETTINGS",
        r"CONTROL_\d+|UNUSED_TOKEN_\d+",
    )
)

_TOKEN = re.compile(
    "|".join(
        (
            # ChatML, Llama 3 and 4, Phi, GLM, Kimi, Command, Granite, Harmony; DeepSeek with wide bars.
            r"<(?=[|\uff5c][^<>\n]{1,64}>)",
            # Gemma 4 closes with the bar.
            r"<(?=[^\s<>|]{1,32}\|>)",
            # EXAONE.
            r"\[(?=\|[^\]\n|]{1,32}\|\])",
            # Llama 2 and Mistral.
            r"<(?=</?SYS>>)",
            rf"\[(?=/?(?:{_MARKS})\])",
            # Gemma, Hermes, Qwen, Nemotron, Seed, MiniMax and the older ones.
            rf"<(?=/?(?i:{_WORDS})(?:=[^<>\n]{{1,64}})?>)",
            r"<(?=/?[a-z]{1,16}:[a-z_]{1,32}>)",
            r"\](?=~!?[a-z]{1,16}[\[\]])",
            r"\[(?=e~\[)",
            # Alpaca, Vicuna and others have nothing but words for it.
            r"^(?=(?:#{2,3} ?)?(?i:system|user|human|assistant|ai|instruction|response|input) ?:)",
        )
    ),
    re.MULTILINE,
)


def defused(text: str) -> str:
    """The text with no token of a chat template in it."""
    return _TOKEN.sub(lambda found: f"{found[0]} ", text)
