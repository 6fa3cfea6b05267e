"""Chat templates in the hands of llama.cpp's server, judged by the prompts that it makes.

It has an engine of its own for them, and mends some of what they cannot do: a place may be found there that
transformers has not.
"""

import pytest

from tests.servers.chat_template import OWN
from tests.templates.corpus import TEMPLATES
from tests.templates.judging import Judge
from tests.templates.serving import served
from tests.templates.transcripts import transcripts

# Of those that are fetched one of each kind.
FETCHED = {
    "axolotl-alpaca",
    "axolotl-aya",
    "axolotl-cohere",
    "axolotl-command_a_tool_use",
    "axolotl-exaone",
    "axolotl-exaone4",
    "axolotl-falcon_h1",
    "axolotl-gemma3n",
    "axolotl-jamba",
    "axolotl-llama3",
    "axolotl-llama3_2_vision",
    "axolotl-llama4",
    "axolotl-metharme",
    "axolotl-mistral_v1",
    "axolotl-mistral_v2v3",
    "axolotl-mistral_v3_tekken",
    "axolotl-mistral_v7_tekken",
    "axolotl-phi_4",
    "axolotl-pixtral",
    "axolotl-qwen_25",
    "trl-deepseek_r1_distill",
    "trl-deepseekv3",
    "trl-gemma",
    "trl-gemma3",
    "trl-gemma4_v2",
    "trl-gemma4_v5",
    "trl-glm4moe",
    "trl-gptoss",
    "trl-idefics3",
    "trl-lfm2_2_5_v2",
    "trl-llama3_1",
    "trl-llava_next",
    "trl-muse_glimmer",
    "trl-nemotron_3_super",
    "trl-phi3_5",
    "trl-qwen3",
    "trl-qwen3_6",
    "trl-qwen3_8",
    "trl-qwen3_vl",
    "trl-smolvlm",
}

SERVED = [*(path.stem for path in sorted(OWN.glob("*.jinja"))), *(FETCHED & set(TEMPLATES))]


@pytest.mark.parametrize("name", sorted(SERVED))
async def test_what_is_chosen_by_its_prompts_holds_in_any_conversation(name: str) -> None:
    with served(TEMPLATES[name]) as server:
        judge = await Judge.of(server.render)
        await judge.holds_in(transcripts(name, 4))
