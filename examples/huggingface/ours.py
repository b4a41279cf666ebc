"""Hugging Face's Trainer, with a small transformer."""

import tempfile

import torch
from torch.nn import functional as F
from torch.utils.data import default_collate
from transformers import Trainer, TrainingArguments

from examples.data import table
from examples.model import Encoder
from tfa_perf.data import WindowDataset


class Classifier(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.model = Encoder(features)

    def forward(self, x, labels):
        logits = self.model(x)
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels), "logits": logits}


def collate(samples):
    x, labels = default_collate(samples)
    return {"x": x, "labels": labels}


def train(X, y):
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=256, num_train_epochs=1, use_cpu=True,
            report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
            remove_unused_columns=False, dataloader_pin_memory=False,
        )  # fmt: skip
        dataset = WindowDataset(X, y, window=48)
        trainer = Trainer(
            Classifier(X.shape[1]), arguments, train_dataset=dataset, data_collator=collate
        )
        return [trainer.train().training_loss]


if __name__ == "__main__":
    print(train(*table(2_500))[-1])
