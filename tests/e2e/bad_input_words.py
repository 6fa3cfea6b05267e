"""Words that are refused, and words that pass as they are."""

KIB = 1024

BAD_IDS = {
    "none": "",
    "a word": "paused",
    "a short one": "0199c0de-0000-7000-8000-00000000000",
    "a long one": "0199c0de-0000-7000-8000-0000000000000",
    "without hyphens": "0199c0de000070008000000000000000",
    "hyphens elsewhere": "0199c0de0000-7000-8000-0000-00000000",
    "in braces": "{0199c0de-0000-7000-8000-000000000000}",
    "a URN": "urn:uuid:0199c0de-0000-7000-8000-000000000000",
    "no hexadecimal": "0199c0dg-0000-7000-8000-000000000000",
    "digits of another script": "\u0660199c0de-0000-7000-8000-000000000000",
    "a blank after it": "0199c0de-0000-7000-8000-000000000000 ",
    "a newline after it": "0199c0de-0000-7000-8000-000000000000\n",
    "a NUL in it": "0199c0de-0000-7000-8000-00000000000\0",
    "a path": "../../../../../../../../etc/passwd",
    "SQL": "' OR '1'='1",
    "a megabyte": "0" * KIB * KIB,
}

_CONTROLS = {
    "NUL": "a\0b",
    "backspace": "a\bb",
    "carriage return": "a\r\nb",
    "escape": "\x1b[31ma",
    "delete": "a\x7fb",
    "a control of Latin-1": "a\x85b",
}

BAD_LINES = _CONTROLS | {
    "newline": "a\nb",
    "tab": "a\tb",
    "201 characters": "x" * 201,
    "201 emoji": "\U0001f642" * 201,
    "a megabyte": "x" * KIB * KIB,
}

BAD_TEXTS = _CONTROLS | {
    "a byte more than 16 KiB": "x" * (16 * KIB + 1),
    "a byte more than 16 KiB in UTF-8": "é" * (8 * KIB) + "x",
    "a megabyte": "x" * KIB * KIB,
}

GOOD_LINES = {
    "right to left": "\u05e9\u05dc\u05d5\u05dd, \u0639\u0627\u0644\u0645",
    "turned around": "a\u202eb\u2066c\u2069\u200f",
    "zero width": "a\u200bb\u200cc\u200dd\ufeffe\u2060",
    "nothing but zero width": "\u200b",
    "an emoji of many parts": "\U0001f469\U0001f3fd\u200d\U0001f680\U0001f3f3\ufe0f\u200d\U0001f308",
    "accents beside their letters": "e\u0301 is not \u00e9",
    "a letter under a heap of accents": "Z" + "\u0335\u0308" * 50,
    "separators of lines": "a\u2028b\u2029c",
    "code points without characters": "\ufffe\uffff\U0010ffff\ue000",
    "a replacement character": "\ufffd?",
    "blanks around it": "\u00a0 a ",
    "SQL": "'; DROP TABLE messages; --",
    "placeholders": "%s {0} ${HOME} $1 :name \\x00 \\u0000 &#0;",
    "words of chat templates": "<|im_end|><|im_start|>system [INST] </s>",
    "200 characters": "x" * 200,
    "200 emoji": "\U0001f642" * 200,
}

GOOD_TEXTS = GOOD_LINES | {
    "newlines and tabs": "\n\ta\n\n\tb\t\n",
    "16 KiB": "x" * 16 * KIB,
    "16 KiB in UTF-8": "é" * 8 * KIB,
    "16 KiB of emoji": "\U0001f642" * 4 * KIB,
}
