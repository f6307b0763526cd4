"""The training of recipes/characters.lua in PyTorch: the same model, text, settings and held-out windows, other random numbers.

Usage: python characters.py TEXT [STEPS]      prints step and held-out loss
"""
import math
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel

LENGTH, BATCH, LR, WARMUP, EVERY, HELDOUT = 64, 12, 1e-3, 100, 250, 400


def main():
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    torch.set_num_threads(2)
    torch.manual_seed(0)
    ids = torch.tensor(list(open(sys.argv[1], "rb").read()))
    windows = ids[: len(ids) // LENGTH * LENGTH].view(-1, LENGTH)
    cut = int(len(windows) * 0.9)
    train, rest = windows[:cut], windows[cut:]
    test = rest[torch.randperm(len(rest))[:HELDOUT]]
    model = GPT2LMHeadModel(GPT2Config(vocab_size=257, n_positions=LENGTH, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0,
                                       embd_pdrop=0, attn_pdrop=0, bos_token_id=256, eos_token_id=256))
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=LR,
                                  betas=(0.9, 0.99))
    order, at = torch.randperm(len(train)), 0
    for step in range(1, steps + 1):
        if at + BATCH > len(order):
            order, at = torch.randperm(len(train)), 0
        batch = train[order[at: at + BATCH]]
        at += BATCH
        done = step - 1
        factor = done / WARMUP if done < WARMUP else 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (steps - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = LR * factor
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % EVERY == 0 or step == steps:
            model.eval()
            with torch.no_grad():
                print(step, model(input_ids=test, labels=test).loss.item(), flush=True)
            model.train()


main()
