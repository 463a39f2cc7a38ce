"""Language models that play: prompts, llama.cpp, answers, and the episodes they make.

    python -m loro_jax.language.collect --task cartpole --model smollm2-135m-instruct

Nothing here needs llama-cpp-python to be imported; playing does (the extra `llm`).
"""
