import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 96

    def __getitem__(self, index):
        g = torch.Generator().manual_seed(index)
        return {"input_ids": torch.randint(0, 100, (16,), generator=g), "labels": index % 2}


if __name__ == "__main__":
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=100,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
        )
    )
    arguments = TrainingArguments(
        "hf_out",
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="epoch",
        use_cpu=True,
        report_to="none",
    )
    Trainer(model, arguments, train_dataset=Rows(), eval_dataset=Rows()).train()
