"""Agents whose tool calls get other ids in every run: the second run is all hits, whoever's API and SDK it is."""

from __future__ import annotations

import asyncio
import json

import anthropic
import httpx2
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session

QUESTIONS = ("Please get weather and get time for Bern.", "Thanks. Now get weather for Oslo.")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = {"get_weather": "The weather of a city.", "get_time": "The time in a city."}


def run_tool(name, arguments):
    """What a tool of the agent's returns; the same for the same arguments."""
    return f"{name} of {json.dumps(arguments, sort_keys=True)}: fine"


def chat(server, *, stream=False):
    """An agent on OpenAI's chat completions."""
    functions = [{"name": name, "description": text, "parameters": SCHEMA} for name, text in TOOLS.items()]
    asked = {"model": "gpt-4.1-mini", "tools": [{"type": "function", "function": f} for f in functions]}
    messages, answers, ids = [], [], []
    with openai.OpenAI(base_url=server.openai_url, api_key="k") as client:

        def ask():
            if not stream:
                return client.chat.completions.create(**asked, messages=messages).choices[0].message
            with client.chat.completions.stream(**asked, messages=messages) as events:
                return events.get_final_completion().choices[0].message

        for question in QUESTIONS:
            messages.append({"role": "user", "content": question})
            while calls := (message := ask()).tool_calls or []:
                messages.append(message.model_dump(exclude_none=True))
                for call in calls:
                    ids.append(call.id)
                    content = run_tool(call.function.name, json.loads(call.function.arguments))
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": content})
            messages.append({"role": "assistant", "content": message.content})
            answers.append(message.content)
    return answers, ids


def chat_streamed(server):
    """The same agent, streamed."""
    return chat(server, stream=True)


def chat_async(server):
    """An asynchronous agent on OpenAI's chat completions, which runs its tools at the same time."""
    functions = [{"name": name, "description": text, "parameters": SCHEMA} for name, text in TOOLS.items()]
    asked = {"model": "gpt-4.1-mini", "tools": [{"type": "function", "function": f} for f in functions]}

    async def result(call):
        await asyncio.sleep(0)
        content = run_tool(call.function.name, json.loads(call.function.arguments))
        return {"role": "tool", "tool_call_id": call.id, "content": content}

    async def run():
        messages, answers, ids = [], [], []
        async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="k") as client:
            for question in QUESTIONS:
                messages.append({"role": "user", "content": question})
                while True:
                    answer = await client.chat.completions.create(**asked, messages=messages)
                    message = answer.choices[0].message
                    messages.append(message)
                    if not message.tool_calls:
                        break
                    ids += [call.id for call in message.tool_calls]
                    messages += await asyncio.gather(*map(result, message.tool_calls))
                answers.append(message.content)
        return answers, ids

    return asyncio.run(run())


def responses(server, *, stream=False):
    """An agent on OpenAI's Responses API that keeps its conversation itself."""
    tools = [
        {"type": "function", "name": name, "description": text, "parameters": SCHEMA, "strict": False}
        for name, text in TOOLS.items()
    ]
    asked = {"model": "gpt-4.1-mini", "tools": tools, "store": False, "include": ["reasoning.encrypted_content"]}
    items, answers, ids = [], [], []
    with openai.OpenAI(base_url=server.openai_url, api_key="k") as client:

        def ask():
            if not stream:
                return client.responses.create(**asked, input=items)
            with client.responses.stream(**asked, input=items) as events:
                return events.get_final_response()

        for question in QUESTIONS:
            items.append({"role": "user", "content": question})
            while True:
                answer = ask()
                items += [item.to_dict(exclude_none=True) for item in answer.output]
                calls = [item for item in answer.output if item.type == "function_call"]
                if not calls:
                    break
                for call in calls:
                    ids.append(call.call_id)
                    output = run_tool(call.name, json.loads(call.arguments))
                    items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
            answers.append(answer.output_text)
    return answers, ids


def responses_streamed(server):
    """The same agent, streamed."""
    return responses(server, stream=True)


def claude(server, *, stream=False, **more):
    """An agent on Anthropic's messages."""
    tools = [{"name": name, "description": text, "input_schema": SCHEMA} for name, text in TOOLS.items()]
    asked = {"model": "claude-sonnet-5", "max_tokens": 2000, "tools": tools, **more}
    messages, answers, ids = [], [], []
    with anthropic.Anthropic(base_url=server.url, api_key="k") as client:

        def ask():
            if not stream:
                return client.messages.create(**asked, messages=messages)
            with client.messages.stream(**asked, messages=messages) as events:
                return events.get_final_message()

        for question in QUESTIONS:
            messages.append({"role": "user", "content": question})
            while True:
                answer = ask()
                messages.append({"role": "assistant", "content": answer.content})
                calls = [block for block in answer.content if block.type == "tool_use"]
                if not calls:
                    break
                ids += [call.id for call in calls]
                results = [
                    {"type": "tool_result", "tool_use_id": call.id, "content": run_tool(call.name, call.input)}
                    for call in calls
                ]
                messages.append({"role": "user", "content": results})
            answers.append("".join(block.text for block in answer.content if block.type == "text"))
    return answers, ids


def claude_streamed(server):
    """The same agent, streamed."""
    return claude(server, stream=True)


def claude_thinking(server):
    """The same agent on a model that thinks, whose signed thoughts are sent along."""
    return claude(server, thinking={"type": "enabled", "budget_tokens": 1024})


def gemini(server):
    """An agent on Gemini, which gives its calls ids or not."""
    genai = pytest.importorskip("google.genai", reason="pip install google-genai")
    types = genai.types
    declared = [
        types.FunctionDeclaration(name=name, description=text, parameters_json_schema=SCHEMA)
        for name, text in TOOLS.items()
    ]
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=declared)],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=server.url))
    contents, answers, ids = [], [], []
    for question in QUESTIONS:
        contents.append(types.Content(role="user", parts=[types.Part(text=question)]))
        while True:
            answer = client.models.generate_content(model="gemini-2.5-flash", contents=contents, config=config)
            contents.append(answer.candidates[0].content)
            if not answer.function_calls:
                break
            results = []
            for call in answer.function_calls:
                ids.append(call.id)
                response = types.FunctionResponse(
                    id=call.id, name=call.name, response={"result": run_tool(call.name, call.args)}
                )
                results.append(types.Part(function_response=response))
            contents.append(types.Content(role="user", parts=results))
        answers.append(answer.text)
    client.close()
    return answers, ids


def bedrock(server):
    """An agent on Bedrock's ``converse``."""
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    session = boto3.session.Session(aws_access_key_id="k", aws_secret_access_key="k")
    client = session.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url)
    specs = [{"name": n, "description": text, "inputSchema": {"json": SCHEMA}} for n, text in TOOLS.items()]
    asked = {
        "modelId": "anthropic.claude-3-5-sonnet-20240620-v1:0",
        "toolConfig": {"tools": [{"toolSpec": spec} for spec in specs]},
    }
    messages, answers, ids = [], [], []
    for question in QUESTIONS:
        messages.append({"role": "user", "content": [{"text": question}]})
        while True:
            message = client.converse(**asked, messages=messages)["output"]["message"]
            messages.append(message)
            calls = [block["toolUse"] for block in message["content"] if "toolUse" in block]
            if not calls:
                break
            ids += [call["toolUseId"] for call in calls]
            results = [
                {"toolUseId": call["toolUseId"], "content": [{"text": run_tool(call["name"], call["input"])}]}
                for call in calls
            ]
            messages.append({"role": "user", "content": [{"toolResult": result} for result in results]})
        answers.append(message["content"][0]["text"])
    client.close()
    return answers, ids


AGENTS = [
    chat,
    chat_streamed,
    chat_async,
    responses,
    responses_streamed,
    claude,
    claude_streamed,
    claude_thinking,
    gemini,
    bedrock,
]
agents = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.__name__)
TURNS = 2 * len(QUESTIONS)


@pytest.mark.filterwarnings("default")  # what other packages deprecate is not ours to fail on
@agents
def test_second_run_is_all_hits(isolated, unique_server, agent):
    """A run of several turns, with parallel calls and ids that no two runs share, is replayed by a new session."""
    with llm_cache() as first:
        said = agent(unique_server)
    assert (first.misses, first.hits, first.bypassed) == (TURNS, 0, 0)
    assert len(said[1]) == len(set(said[1])) == 3
    reset_session()
    with llm_cache() as second:
        assert agent(unique_server) == said
    assert (second.misses, second.hits, second.bypassed) == (0, TURNS, 0)
    assert unique_server.count == TURNS
    assert first.troubles == second.troubles == ()


@pytest.mark.filterwarnings("default")  # as above
@agents
def test_first_turn_asked_anew(isolated, server, agent):
    """A first turn that is asked again gets other ids, and each later turn that says the same is a hit all the same."""
    with llm_cache() as cell:
        said, ids = agent(server)
    current_session().cache("default").invalidate_entry(cell.calls[0].entry_id)
    with llm_cache() as cell:
        said_again, ids_again = agent(server)
    assert said_again == said
    assert not set(ids_again[:2]) & set(ids[:2])
    assert server.requests[-1].body == server.requests[0].body
    assert [call.outcome.value for call in cell.calls] == ["stale", *["hit"] * (TURNS - 1)]
    assert server.count == TURNS + 1


def test_results_that_change_places(isolated, server):
    """Ids are numbered, not dropped: the results of two parallel calls that change places are another request."""
    calls = [
        {"id": i, "type": "function", "function": {"name": "get_weather", "arguments": f'{{"city":"{city}"}}'}}
        for i, city in (("call_a", "Bern"), ("call_b", "Oslo"))
    ]

    def ask(rain_in, sun_in):
        results = [(rain_in, "rain"), (sun_in, "sun")]
        messages = [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            *({"role": "tool", "tool_call_id": i, "content": text} for i, text in results),
        ]
        body = {"model": "gpt-4.1-mini", "messages": messages}
        assert httpx2.post(f"{server.openai_url}/chat/completions", json=body).is_success

    with llm_cache() as cell:
        ask("call_a", "call_b")
        ask("call_b", "call_a")
    assert (cell.misses, cell.hits) == (2, 0)


def reasoning_request(item_id, encrypted):
    """A later turn on the Responses API that sends reasoning along, as the model gave it."""
    reasoning = {"type": "reasoning", "id": item_id, "summary": [], "encrypted_content": encrypted}
    call = {
        "type": "function_call",
        "id": f"fc_{item_id}",
        "call_id": f"call_{item_id}",
        "name": "f",
        "arguments": "{}",
    }
    result = {"type": "function_call_output", "call_id": f"call_{item_id}", "output": "fine"}
    return "/v1/responses", {"input": [{"role": "user", "content": "a"}, reasoning, call, result], "store": False}


def thinking_request(block_id, signature):
    """A later turn on Anthropic's API that sends signed thinking along, as the model gave it."""
    thinking = {"type": "thinking", "thinking": "Well.", "signature": signature}
    use = {"type": "tool_use", "id": f"toolu_{block_id}", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": f"toolu_{block_id}", "content": "fine"}
    messages = [("user", "a"), ("assistant", [thinking, use]), ("user", [result])]
    return "/v1/messages", {"max_tokens": 9, "messages": [{"role": r, "content": c} for r, c in messages]}


def thought_request(part_id, signature):
    """A later turn on Gemini's API that sends a thought's signature along, as the model gave it."""
    call = {"functionCall": {"id": part_id, "name": "f", "args": {}}, "thoughtSignature": signature}
    result = {"functionResponse": {"id": part_id, "name": "f", "response": {}}}
    contents = [("user", {"text": "a"}), ("model", call), ("user", result)]
    path = "/v1beta/models/gemini-2.5-flash:generateContent"
    return path, {"contents": [{"role": role, "parts": [part]} for role, part in contents]}


@pytest.mark.parametrize("request_of", [reasoning_request, thinking_request, thought_request])
def test_thoughts_are_content(isolated, server, request_of):
    """Encrypted reasoning and signed thoughts decide what comes next, so they are in the key; ids beside them not."""
    with llm_cache() as cell:
        for name, thought in (("1", "QUJD"), ("2", "QUJD"), ("1", "REVG")):
            path, body = request_of(name, thought)
            headers = {"anthropic-version": "2023-06-01"} if path.endswith("messages") else {}
            answer = httpx2.post(server.url + path, json={"model": "m", **body}, headers=headers)
            assert answer.is_success, answer.text
    assert [call.outcome.value for call in cell.calls] == ["miss", "hit", "miss"]


def test_reasoning_that_the_server_keeps(isolated, server):
    """A reasoning item without its content is a handle: its id is what it says, and stays in the key."""
    with llm_cache() as cell:
        for name in ("rs_1", "rs_1", "rs_2"):
            path, body = reasoning_request("1", None)
            body["input"][1] = {"type": "reasoning", "id": name, "summary": []}
            assert httpx2.post(server.url + path, json={"model": "m", **body}).is_success
    assert [call.outcome.value for call in cell.calls] == ["miss", "hit", "miss"]
