"""Models of the kinds that people serve, small and untrained: what the list of operations must let through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

Build = Callable[[], Any]


def images() -> Any:
    import keras

    layers = keras.layers
    picture = x = keras.Input((32, 32, 3), name="picture", dtype="uint8")
    for layer in (
        layers.Rescaling(1 / 255),
        layers.Resizing(24, 20),
        layers.CenterCrop(20, 20),
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
        layers.RandomFlip(),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomTranslation(0.1, 0.1),
        layers.RandomContrast(0.1),
        layers.RandomBrightness(0.1, value_range=(0, 1)),
        layers.Conv2D(4, 3, padding="same"),
        layers.BatchNormalization(),
        layers.Activation("swish"),
        layers.DepthwiseConv2D(3),
        layers.LeakyReLU(),
        layers.SeparableConv2D(4, 3),
        layers.PReLU(),
        layers.Conv2DTranspose(4, 3),
        layers.GroupNormalization(2),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.MaxPooling2D(),
        layers.AveragePooling2D(2),
        layers.ZeroPadding2D(1),
        layers.Cropping2D(1),
        layers.SpatialDropout2D(0.1),
    ):
        x = layer(x)
    pooled = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    return keras.Model(picture, layers.Dense(3, activation="softmax")(layers.Dropout(0.5)(pooled)))


def sequences() -> Any:
    import keras

    layers = keras.layers
    steps = keras.Input((None, 4), name="steps")
    x = layers.Masking()(steps)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.GRU(4, return_sequences=True)(x)
    x = layers.SimpleRNN(4, return_sequences=True)(x)
    x = layers.Conv1D(4, 3, padding="causal")(x)
    x = layers.TimeDistributed(layers.Dense(4))(x)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True))
    x = x + layers.Attention()([x, x]) + layers.AdditiveAttention()([x, x])
    return keras.Model(steps, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))


def transformer() -> Any:
    import keras

    layers = keras.layers
    tokens = keras.Input((12,), name="tokens", dtype="int32")
    places = keras.ops.arange(12)
    x = layers.Embedding(50, 8)(tokens) + layers.Embedding(12, 8)(places)
    mask = keras.ops.cast(keras.ops.not_equal(tokens, 0), "int32")[:, None, :]
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x, attention_mask=mask))
    x = layers.LayerNormalization()(x + layers.Dense(8)(layers.Dense(16, activation="gelu")(x)))
    return keras.Model(tokens, layers.Dense(4, activation="softmax")(x[:, 0]))


def texts() -> Any:
    import keras

    layers = keras.layers
    text = keras.Input((), name="text", dtype="string")
    words = ["free", "money", "hello"]
    x = layers.Embedding(9, 4)(layers.TextVectorization(output_sequence_length=6, vocabulary=words)(text))
    bags = layers.TextVectorization(output_mode="multi_hot", vocabulary=words, ngrams=2)(text)
    weighed = layers.TextVectorization(output_mode="tf_idf", vocabulary=words, idf_weights=[1.0, 2.0, 3.0])(text)
    letters = layers.TextVectorization(
        split="character", standardize="lower", output_mode="count", vocabulary=list("abc")
    )(text)
    every = [layers.GlobalAveragePooling1D()(x), *(keras.ops.cast(b, "float32") for b in (bags, weighed, letters))]
    return keras.Model(text, layers.Dense(1, activation="sigmoid")(layers.Concatenate()(every)))


def tables() -> Any:
    import keras

    layers = keras.layers
    colour = keras.Input((1,), name="colour", dtype="string")
    shop = keras.Input((1,), name="shop", dtype="int64")
    price = keras.Input((1,), name="price")
    every = [
        layers.StringLookup(vocabulary=["red", "blue"], output_mode="one_hot")(colour),
        layers.CategoryEncoding(8, output_mode="one_hot")(layers.Hashing(8)(colour)),
        layers.CategoryEncoding(8, output_mode="multi_hot")(layers.Hashing(8, salt=3)(shop)),
        layers.IntegerLookup(vocabulary=[3, 5, 7], output_mode="multi_hot")(shop),
        layers.Discretization(bin_boundaries=[0.0, 1.0, 2.0], output_mode="one_hot")(price),
        layers.HashedCrossing(5, output_mode="one_hot")((colour, layers.Hashing(4)(colour))),
        layers.Normalization(mean=3.0, variance=2.0)(price),
    ]
    every = [keras.ops.cast(x, "float32") for x in every]
    labels = layers.StringLookup(vocabulary=["no", "yes"], num_oov_indices=0, invert=True)
    score = layers.Dense(2)(layers.Concatenate()(every))
    return keras.Model(
        {"colour": colour, "shop": shop, "price": price},
        {"score": score, "label": labels(keras.ops.argmax(score, axis=-1))},
    )


KERAS: Final[dict[str, Build]] = {
    "images": images, "sequences": sequences, "transformer": transformer, "texts": texts, "tables": tables,
}  # fmt: skip


def photographs() -> Any:
    """JPEG and PNG bytes in."""
    import tensorflow as tf

    class Photographs(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="bytes")])  # type: ignore[untyped-decorator]
        def serve(self, bytes: Any) -> dict[str, Any]:  # noqa: A002 - the input's name
            def read(one: Any) -> Any:
                picture = tf.io.decode_image(one, channels=3, expand_animations=False)
                picture = tf.image.resize(tf.image.convert_image_dtype(picture, tf.float32), (8, 8))
                return tf.image.central_crop(tf.image.rgb_to_grayscale(picture), 0.5)

            pictures = tf.map_fn(read, bytes, fn_output_signature=tf.TensorSpec((4, 4, 1), tf.float32))
            return {"mean": tf.reduce_mean(pictures, axis=(1, 2))}

    return Photographs()


def lookups(folder: Path) -> Any:
    """Tables from a vocabulary file and from memory, and one that changes."""
    import tensorflow as tf

    (folder / "vocabulary.txt").write_text("red\nblue\n")

    class Lookups(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        def __init__(self) -> None:
            super().__init__()
            lookup, file = tf.lookup, tf.lookup.TextFileIndex
            self.words = lookup.StaticVocabularyTable(
                lookup.TextFileInitializer(
                    str(folder / "vocabulary.txt"), tf.string, file.WHOLE_LINE, tf.int64, file.LINE_NUMBER
                ),
                num_oov_buckets=2,
            )
            memory = lookup.KeyValueTensorInitializer([0, 1], ["zero", "one"], tf.int64, tf.string)
            self.names = lookup.StaticHashTable(memory, "many")
            self.changing = lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0)
            self.changing.insert(["red"], [2.0])
            self.weights = tf.Variable([1.0, 2.0, 3.0, 4.0])

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="word")])  # type: ignore[untyped-decorator]
        def serve(self, word: Any) -> dict[str, Any]:
            place = self.words.lookup(word)
            tf.debugging.assert_non_negative(place)
            weight = tf.gather(self.weights, place) + tf.ensure_shape(self.changing.lookup(word), (None,))
            return {"weight": weight, "name": tf.ensure_shape(self.names.lookup(place), (None,))}

    return Lookups()


def loops() -> Any:
    """Control flow, ragged and sparse tensors, string operations, linear algebra, random numbers."""
    import tensorflow as tf

    class Loops(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[
                tf.TensorSpec((None,), tf.string, name="text"),
                tf.TensorSpec((None, 4), tf.float32, name="numbers"),
            ]
        )
        def serve(self, text: Any, numbers: Any) -> dict[str, Any]:
            words = tf.strings.split(tf.strings.regex_replace(tf.strings.lower(text), "[^a-z ]", ""))
            counts = tf.cast(words.row_lengths(), tf.float32)
            padded = words.to_tensor("", shape=(None, 5))
            joined = tf.strings.reduce_join(tf.strings.ngrams(words, 2), axis=-1, separator="|")
            hashed = tf.strings.to_hash_bucket_fast(padded, 16)
            bags = tf.sparse.to_dense(tf.sparse.bincount(hashed, minlength=16, maxlength=16))
            total = tf.zeros_like(counts)
            for step in tf.range(3):
                total = total + tf.cast(step, tf.float32) * counts if step > 0 else total
            square = tf.einsum("bi,bj->bij", numbers, numbers) + tf.eye(4)
            values = tf.linalg.logdet(tf.linalg.matmul(square, square, transpose_b=True) + tf.eye(4))
            waves = tf.abs(tf.signal.rfft(numbers))
            noise = 0.0 * tf.random.stateless_uniform(tf.shape(values), [1, 2])
            scanned = tf.scan(lambda a, x: a + x, numbers)
            ordered = tf.math.top_k(tf.where(numbers > 0, numbers, -numbers), 2).values
            return {
                "joined": joined, "bags": bags, "total": total, "values": values + noise,
                "waves": waves, "scanned": scanned, "ordered": ordered,
            }  # fmt: skip

    return Loops()
