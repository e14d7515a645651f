"""An agent as one finds them: it reads a question, asks a model through OpenAI's client, and prints the answer.

It takes address, key and model from the environment, as the client does, and knows nothing of whoever runs it.
"""

import os
import sys

from openai import OpenAI


def main() -> None:
    question = sys.stdin.read().strip()
    client = OpenAI()
    completion = client.chat.completions.create(
        model=os.environ.get("OPENAI_MODEL", "gpt-5-mini"),
        messages=[{"role": "user", "content": question}],
    )
    print(completion.choices[0].message.content)


if __name__ == "__main__":
    main()
