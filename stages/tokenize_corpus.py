"""Turn the text into the model's tokens, once for all that read them."""

import torch

from permeation.frame.tables import read_json, write_json
from permeation.models.tokenizer import check_tokens, load_tokenizer
from permeation.perplexity.windows import Text, bos_of
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/tokenize_corpus/: text.safetensors with the tokens and the first token of each article."""
    corpus, model = stage.input("corpus"), stage.input("model")
    characters = (corpus / "corpus.txt").read_text(encoding="utf-8")
    tokenizer = load_tokenizer(model)
    bos = bos_of(tokenizer, stage.config.perplexity.prepend_bos)
    text = Text.tokenize(tokenizer, characters, read_json(corpus / "articles.json"), bos)
    front = [] if bos is None else [bos]
    check_tokens(torch.cat([text.tokens, text.tokens.new_tensor(front)]), read_json(model / "model.json")["d_vocab"])
    with stage.output() as folder:
        text.write(folder)
        write_json(folder / "summary.json", {"tokens": len(text.tokens), "articles": len(text.articles)})


if __name__ == "__main__":
    run(main)
