"""Lightning's Trainer."""

import lightning
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from examples.data import table
from examples.model import small
from tfa_perf.data import WindowDataset


class Classifier(lightning.LightningModule):
    def __init__(self, features):
        super().__init__()
        self.model, self.losses = small(features), []

    def training_step(self, batch, index):
        loss = F.binary_cross_entropy_with_logits(self.model(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def train(X, y):
    torch.manual_seed(0)
    module = Classifier(X.shape[1])
    loader = DataLoader(WindowDataset(X, y, window=48), batch_size=1024, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    return module.losses


if __name__ == "__main__":
    print(train(*table())[-1])
