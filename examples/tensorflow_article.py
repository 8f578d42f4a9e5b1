"""The introduction to TensorFlow, step by step, with only the import changed.

Run it with `python examples/tensorflow_article.py`; it prints what the article prints and draws the scatter plot of
Scores over Hours into student_scores.png.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import flowgraph as tf

DATA = Path(__file__).with_name("student_scores.csv")


def tensors_and_variables() -> None:
    """Constants, variables, and arithmetic on them."""
    print(tf.constant(3, shape=[2, 3]))

    print(tf.Variable([1, 2, 3, 4, 5, 6], dtype=tf.float32))
    print(tf.Variable([1.0], np.float32))

    print(tf.add([1], [2]))
    print(tf.add([1, 2], [3, 4]))
    print(tf.add([[1, 2], [3, 4]], [[5, 6], [7, 8]]))

    ones = tf.ones([2, 3])
    print(tf.multiply(ones, tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])))
    print(tf.matmul(tf.ones([4, 2]), tf.ones([2, 4])))


def gradient_of_square(value: float) -> float:
    """The slope of x * x at `value`."""
    x = tf.Variable(value)
    with tf.GradientTape() as tape:
        y = tf.multiply(x, x)
    return float(tape.gradient(y, x).numpy())


def reshaped_images() -> None:
    """Random grey and colour images as columns."""
    gray = tf.random.uniform([2, 2], maxval=255, dtype="int32")
    print(tf.reshape(gray, [2 * 2, 1]))
    color = tf.random.uniform([2, 2, 3], maxval=255, dtype="int32")
    print(tf.reshape(color, [2 * 2, 3]))


def load(dtype: object = tf.float32) -> "tuple[tf.Tensor, tf.Tensor, pd.DataFrame]":
    """Hours and scores as tensors, and the table they come from."""
    df = pd.read_csv(DATA)
    return tf.cast(df["Hours"], dtype), tf.cast(df["Scores"], dtype), df


def plot(df: pd.DataFrame, path: Path) -> None:
    """The scatter plot of the article."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 4))
    ax.scatter(df["Hours"], df["Scores"])
    ax.set(title="Hours vs Score", xlabel="Hours Studied", ylabel="Percentage Score")
    fig.tight_layout()
    fig.savefig(path)
    plt.close(fig)


def train(dtype: object = tf.float32) -> "tuple[list[float], tf.Variable, tf.Variable]":
    """Linear regression by Adam: the loss after updates 1, 11, ..., 91, and the fitted line."""
    hours, scores, _ = load(dtype)
    intercept = tf.Variable(1.0, dtype=dtype)
    slope = tf.Variable(10.0, dtype=dtype)

    def loss_function(intercept: tf.Variable, slope: tf.Variable) -> tf.Tensor:
        return tf.keras.losses.mse(scores, intercept + hours * slope)

    opt = tf.keras.optimizers.Adam(0.5)
    losses = []
    for j in range(100):
        opt.minimize(lambda: loss_function(intercept, slope), var_list=[intercept, slope])
        if j % 10 == 0:
            losses.append(float(loss_function(intercept, slope).numpy()))
    return losses, intercept, slope


def main() -> None:
    """The whole article."""
    tensors_and_variables()
    for value in (-1.0, 1.0, 0.0):
        print(f"gradient of x*x at {value}: {gradient_of_square(value)}")
    reshaped_images()

    hours, scores, df = load()
    plot(df, Path("student_scores.png"))
    for intercept, slope in ((0.5, 8.0), (1.2, 10.06)):
        print((tf.keras.losses.mse(scores, intercept + hours * slope) / 100).numpy())

    losses, fitted_intercept, fitted_slope = train()
    print("loss every ten steps:", *losses)
    print("intercept", fitted_intercept.numpy(), "slope", fitted_slope.numpy())


if __name__ == "__main__":
    main()
