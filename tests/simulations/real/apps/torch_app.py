"""An app as Flower's PyTorch template makes one, on data that are drawn: a small network."""

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from hostile import hostile
from torch import nn

from flwr_krum.serverapp.strategy import MultiKrum  # in the template: FedAvg


class Net(nn.Module):
    """Two layers, with a batch norm between them, whose counter is an integer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.bn, self.fc2 = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return two logits per example."""
        return self.fc2(torch.relu(self.bn(self.fc1(x))))


def load_data(partition_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw examples of which the sum decides the class."""
    x = torch.randn(128, 8, generator=torch.Generator().manual_seed(partition_id))
    return x, (x.sum(1) > 0).long()


client_app = ClientApp(mods=[hostile])


@client_app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the model on local data."""
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    x, y = load_data(context.node_config["partition-id"])
    optimizer = torch.optim.SGD(model.parameters(), lr=msg.content["config"]["lr"], momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    metrics = MetricRecord({"train_loss": loss.item(), "num-examples": len(x)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@client_app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Evaluate the model on local data."""
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    model.eval()
    x, y = load_data(context.node_config["partition-id"])
    right = (model(x).argmax(1) == y).float().mean().item()
    metrics = MetricRecord({"eval_acc": right, "num-examples": len(x)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)


server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    strategy = MultiKrum(
        num_malicious_nodes=context.run_config["byzantine"],
        journal=context.run_config["journal"],
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        train_config=ConfigRecord({"lr": 0.1}),
        num_rounds=context.run_config["num-server-rounds"],
        timeout=context.run_config["round-timeout"],
    )
