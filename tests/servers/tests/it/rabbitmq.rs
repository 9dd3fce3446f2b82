//! A private RabbitMQ: used, frozen, killed, restarted.

use std::time::{Duration, Instant};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use test_patience::soon;
use test_servers::{Error, RabbitMqOptions, RabbitMqServer, shared_rabbitmq};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const QUEUE: &str = "kept";

async fn open(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    (connection, channel)
}

async fn publish(channel: &Channel) -> lapin::Result<Confirmation> {
    let persistent = BasicProperties::default().with_delivery_mode(2);
    channel
        .basic_publish(
            "".into(),
            QUEUE.into(),
            BasicPublishOptions::default(),
            b"42",
            persistent,
        )
        .await?
        .await
}

async fn write_message(url: &str) {
    let (_connection, channel) = open(url).await;
    let durable = QueueDeclareOptions::durable();
    channel
        .queue_declare(QUEUE.into(), durable, FieldTable::default())
        .await
        .unwrap();
    assert!(matches!(
        publish(&channel).await.unwrap(),
        Confirmation::Ack(None)
    ));
}

/// Reads a message without acknowledging it, so that it stays in the queue.
async fn read_message(url: &str) -> Vec<u8> {
    let (_connection, channel) = open(url).await;
    let message = channel
        .basic_get(QUEUE.into(), BasicGetOptions::default())
        .await
        .unwrap();
    message.expect("the durable message").delivery.data.to_vec()
}

#[tokio::test]
async fn the_shared_broker_is_one_and_answers() {
    let (one, other) = tokio::join!(shared_rabbitmq(), shared_rabbitmq());
    assert!(std::ptr::eq(one, other));
    open(&one.create_vhost().await.unwrap()).await;
}

/// One node for all cases that do not stop it, because a start takes seconds.
#[tokio::test]
async fn a_node_is_administered_shared_and_kept_from_outside() {
    let began = Instant::now();
    let managed = RabbitMqOptions {
        management: true,
        ..RabbitMqOptions::default()
    };
    let server = RabbitMqServer::start_with(managed).await.unwrap();
    println!("RabbitMQ started in {:?}", began.elapsed());

    vhosts_are_separate(&server).await;
    rabbitmqctl_administers_this_node(&server).await;
    the_management_plugin_answers(&server).await;
    listeners_are_on_loopback(&server).await;
    a_frozen_broker_keeps_its_connections_and_confirms_after_the_thaw(&server).await;

    let dropping = Instant::now();
    drop(server);
    println!("RabbitMQ dropped in {:?}", dropping.elapsed());
}

async fn vhosts_are_separate(server: &RabbitMqServer) {
    let first = server.create_vhost().await.unwrap();
    let second = server.create_vhost().await.unwrap();
    write_message(&first).await;
    assert_eq!(read_message(&first).await, b"42");
    let (_connection, channel) = open(&second).await;
    let elsewhere = channel.basic_get(QUEUE.into(), BasicGetOptions::default()).await;
    assert!(elsewhere.is_err(), "a fresh vhost must not see another's queues");
}

async fn rabbitmqctl_administers_this_node(server: &RabbitMqServer) {
    let users = server.rabbitmqctl(&["list_users"]).await.unwrap();
    assert!(users.contains("llm_bench"), "{users}");
    let error = server.rabbitmqctl(&["no_such_command"]).await.unwrap_err();
    assert!(matches!(error, Error::Command { .. }), "{error}");

    let url = server.create_vhost().await.unwrap();
    write_message(&url).await;
    let (_connection, channel) = open(&url).await;
    server.close_all_connections("for the test").await.unwrap();
    let closed = async { while publish(&channel).await.is_ok() {} };
    soon("the connection is closed", closed).await;
}

async fn the_management_plugin_answers(server: &RabbitMqServer) {
    let url = server.management_url().unwrap();
    let address = url.split_once('@').unwrap().1.trim_end_matches('/');
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("RabbitMQ Management"), "{answer}");
}

async fn listeners_are_on_loopback(server: &RabbitMqServer) {
    let listening = "[inet:sockname(Port) || Port <- erlang:ports(), {ok, Status} <- [prim_inet:getstatus(Port)], \
                     lists:member(listen, Status)].";
    let addresses = server.rabbitmqctl(&["eval", listening]).await.unwrap();
    // AMQP, management and Erlang's distribution.
    let on_loopback = addresses.matches("{{127,0,0,1},").count();
    assert_eq!(on_loopback, 3, "{addresses}");
    assert_eq!(addresses.matches("{ok,").count(), on_loopback, "{addresses}");
}

async fn a_frozen_broker_keeps_its_connections_and_confirms_after_the_thaw(server: &RabbitMqServer) {
    write_message(server.amqp_url()).await;
    let (_connection, channel) = open(server.amqp_url()).await;
    server.freeze().await.unwrap();
    let mut confirmation = std::pin::pin!(publish(&channel));
    assert!(
        timeout(Duration::from_millis(300), &mut confirmation)
            .await
            .is_err(),
        "frozen, yet it confirmed"
    );
    server.thaw().unwrap();
    let confirmed = soon("the confirmation", confirmation).await.unwrap();
    assert!(matches!(confirmed, Confirmation::Ack(None)));
}

#[tokio::test]
async fn confirmed_messages_survive_every_end() {
    let server = RabbitMqServer::start().await.unwrap();
    let url = server.create_vhost().await.unwrap();
    write_message(&url).await;
    let port = server.port();

    // First an orderly restart: RabbitMQ writes the definitions of queues to disk some seconds late, and a kill before that loses
    // a queue that was just declared.
    let began = Instant::now();
    server.stop().await.unwrap();
    println!("RabbitMQ stopped in {:?}", began.elapsed());
    server.start_again().await.unwrap();
    assert_eq!(read_message(&url).await, b"42");

    server.kill().await.unwrap();
    assert!(
        TcpStream::connect(("127.0.0.1", port.unwrap())).await.is_err(),
        "a killed broker must not listen"
    );
    assert!(matches!(server.stop().await, Err(Error::WrongState { .. })));
    let began = Instant::now();
    server.start_again().await.unwrap();
    println!("RabbitMQ started again in {:?}", began.elapsed());
    assert_eq!(read_message(&url).await, b"42");
    assert_eq!(server.port(), port);
}
